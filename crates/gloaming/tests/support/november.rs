//! A shop's real visits, where the data are there.

use std::fs;
use std::path::Path;

use crate::visits::Visit;

/// Online Shoppers' November, halved: visits of one half are counted, and the other half's are scored.
pub(crate) fn november() -> Option<[Vec<Visit>; 2]> {
    let text = fs::read_to_string(
        Path::new(&std::env::var_os("GLOAMING_DATA")?).join("online_shoppers/online_shoppers_feb_nov.csv"),
    )
    .unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let place = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let columns = ["Administrative", "Administrative_Duration", "Informational", "Informational_Duration"];
    let columns =
        columns.into_iter().chain(["ProductRelated", "ProductRelated_Duration"]).map(place).collect::<Vec<_>>();
    let yes = |row: &[&str], name: &str, word: &str| row[place(name)].eq_ignore_ascii_case(word);
    let visits: Vec<Visit> = lines
        .filter(|row| row[place("Month")] == "Nov")
        .map(|row| {
            let flags = [yes(&row, "VisitorType", "Returning_Visitor"), yes(&row, "Weekend", "true")];
            let numbers = columns.iter().map(|at| row[*at].parse().unwrap());
            (numbers.chain(flags.map(|flag| f32::from(u8::from(flag)))).collect(), yes(&row, "Revenue", "true"))
        })
        .collect();
    Some([0, 1].map(|odd| visits.iter().skip(odd).step_by(2).cloned().collect()))
}
