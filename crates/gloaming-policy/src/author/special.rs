//! Special categories of personal data (GDPR, Article 9): by which words they are known, and what a person is told of them.
//!
//! Words are a help to authors, and no proof: what is called something else is found by those who read and sign. They are looked for
//! in what visitors are asked, nowhere else; `[[feature]]` is what a page knows of itself.

use super::table::Table;
use crate::document::{Policy, Purpose};

/// Parts of words that mean nothing else, wherever they stand, in English, German, French and Spanish.
const PARTS: [&str; 16] = [
    "disab",
    "behinder",
    "discapaci",
    "ethni",
    "etni",
    "étni",
    "racial",
    "religi",
    "konfession",
    "gewerkschaft",
    "sexu",
    "biometr",
    "biométr",
    "genet",
    "genét",
    "génét",
];

/// How words of names begin that may mean something else as an answer: a trade is health, a marriage is a union.
const NAMES: [&str; 18] = [
    "health",
    "gesund",
    "sante",
    "salud",
    "handicap",
    "race",
    "rasse",
    "raza",
    "politi",
    "ideolog",
    "union",
    "syndic",
    "sindic",
    "orientat",
    "orientier",
    "orientaci",
    "minusval",
    "confession",
];

/// What a purpose's text goes on with where it asks for something special, by language. Part of what is signed, so that other
/// words here change no policy that is.
const SAID: [(&str, &str); 4] = [
    (
        "en",
        "This is sensitive data (GDPR, Article 9), and takes a yes of its own. Without it nothing of what you say here is counted or sent; take it back, and this device forgets what you said.",
    ),
    (
        "de",
        "Das sind besonders geschützte Angaben (DSGVO, Artikel 9), die ein eigenes Ja brauchen. Ohne dieses wird nichts davon gezählt oder gesendet; nehmen Sie es zurück, vergisst dieses Gerät, was Sie gesagt haben.",
    ),
    (
        "fr",
        "Ce sont des données sensibles (RGPD, article 9), qui demandent un oui à part. Sans lui, rien de ce que vous dites ici n'est compté ni envoyé ; retirez-le, et cet appareil oublie ce que vous avez dit.",
    ),
    (
        "es",
        "Son datos especialmente protegidos (RGPD, artículo 9), que requieren un sí aparte. Sin él no se cuenta ni se envía nada de lo que diga aquí; retírelo, y este dispositivo olvida lo que dijo.",
    ),
];

/// Whether a text has a word of a special category.
fn tells(text: &str, is_name: bool) -> bool {
    let text = text.to_lowercase();
    let begins = |word: &str| NAMES.iter().any(|name| word.starts_with(name));
    PARTS.iter().any(|part| text.contains(part))
        || is_name && text.split(|character: char| !character.is_alphanumeric()).any(begins)
}

/// Refuses an attribute that names a special category, in its id, its values or its purpose's id, and is not marked as one.
pub(super) fn look(table: &Table<'_>, (id, values): (&str, &[String]), purpose: &Purpose) {
    let names = [id, &purpose.id].into_iter().find(|name| tells(name, true));
    if let Some(word) = names.or_else(|| values.iter().map(String::as_str).find(|value| tells(value, false))) {
        table.problem(
            format!("`{word}` of `{id}` names a special category of personal data (GDPR, Article 9)"),
            "write special = true and give it a purpose that nothing else serves; where it is none, call it what it is",
        );
    }
}

/// Adds to a purpose's texts what whoever is asked must know. In languages that are not known here the author says it.
pub(super) fn say(table: &Table<'_>, purpose: &mut Purpose) {
    for (language, text) in &mut purpose.texts {
        let primary = language.split('-').next();
        if let Some((_, said)) = SAID.iter().find(|(known, _)| primary == Some(*known)) {
            text.push(' ');
            text.push_str(said);
        } else if !text.contains('9') {
            table.problem(
                format!("text.{language} of `{}` does not say that this is data of Article 9 of the GDPR", purpose.id),
                "say so in it, and that it takes a yes of its own; texts in en, de, fr and es are added to",
            );
        }
    }
}

/// The id of a purpose that is for a special category in `new` and was there for something else in `old`: devices keep a yes
/// by the purpose's id, and would take the old one for this.
#[must_use]
pub fn newly_special<'p>(old: &Policy, new: &'p Policy) -> Option<&'p str> {
    let plain =
        |id: &str| (0u32..).zip(&old.purposes).any(|(place, purpose)| purpose.id == id && !old.is_special(place));
    let found = (0u32..).zip(&new.purposes).find(|(place, purpose)| new.is_special(*place) && plain(&purpose.id));
    found.map(|(_, purpose)| purpose.id.as_str())
}
