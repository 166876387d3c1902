//! Sites that are added to a running edge and centre, over the operators' API.
#![allow(clippy::unwrap_used)]

use std::fs;

use gloaming_policy::author::{Key, Signed};

mod support;
use support::{Site, body, public, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_added_while_the_service_runs_and_is_there_after_a_restart() {
    let site = Site::new();
    let folder = &site.folder;
    fs::write(folder.path("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(folder.path("wrong"), "another token that is long enough\n").unwrap();
    for section in ["[edge]\n", "[central]\n"] {
        let keys = format!("{section}sites_folder = \"sites-{}\"\nadmin_token_file = \"token\"\n", &section[1..3]);
        folder.edit("gloaming.toml", section, &keys);
    }
    let (centre, mut edge) = (site.start("central"), site.start("edge"));
    until_ready(&site.admin).await;
    until_ready(&site.central).await;

    // A second owner, with a policy of its own.
    folder.says(&["policy", "new", "--template", "docs", "--site", "docs.example", "--out", "docs.toml"]);
    let key = public(&folder.says(&["policy", "key", "--out", "docs.key"]));
    folder.says(&["policy", "sign", "docs.toml", "--key", "docs.key", "--out", "docs.signed"]);
    folder.says(&["policy", "sign", "docs.toml", "--key", "owner.key", "--out", "forged.signed"]);
    let stranger = public(&folder.says(&["policy", "key", "--out", "stranger.key"]));

    let (edge_at, centre_at) = (site.admin.clone(), site.central.clone());
    let refused = |arguments: &[&str], at: &str| folder.refuses(&[arguments, &["--at", at]].concat());
    let says = |arguments: &[&str], at: &str| folder.says(&[arguments, &["--at", at]].concat());
    let said = refused(&["site", "policy", "docs.signed"], &edge_at);
    assert!(said.contains("there is no site docs.example") && said.contains("gloaming site add"), "{said}");
    let said = refused(&["site", "list", "--token", "wrong"], &edge_at);
    assert!(said.contains("401") && said.contains("admin_token_file"), "{said}");
    let said = refused(&["site", "add", "../evil", "--key", &key], &edge_at);
    assert!(said.contains("40"), "{said}");
    let said = refused(&["site", "add", "blog.example", "--key", &key], &edge_at);
    assert!(said.contains("in the configuration file"), "{said}");
    for at in [&edge_at, &centre_at] {
        assert!(says(&["site", "add", "docs.example", "--key", &key], at).contains("is added"));
        assert!(says(&["site", "add", "docs.example", "--key", &key], at).contains("was here already"));
        assert!(refused(&["site", "add", "docs.example", "--key", &stranger], at).contains("another key"));
        let said = refused(&["site", "policy", "forged.signed"], at);
        assert!(said.contains("not signed by the pinned key"), "{said}");
        assert!(says(&["site", "policy", "docs.signed"], at).contains("docs.example version 1 is in force"));
        assert!(says(&["site", "list"], at).contains("docs.example"));
    }

    // It is served at once, held to its quota, and still there when the edge starts again.
    let pin = Key::from_text(&fs::read_to_string(folder.path("docs.key")).unwrap()).unwrap().public();
    let policy = Signed::verify(&fs::read(folder.path("docs.signed")).unwrap(), &pin, 20_000).unwrap().1;
    let window = site.window().await;
    let client = gloaming_http::Client::new(std::time::Duration::from_secs(20));
    let post = async |ids| {
        let address = format!("{}/g/v1/contributions", site.listen);
        let (status, _, answer) = client.post(&address, body(&policy, window, ids)).await.unwrap();
        (status.as_u16(), String::from_utf8(answer.to_vec()).unwrap())
    };
    assert_eq!(post(0..5).await.0, 200);
    assert!(says(&["site", "quota", "docs.example", "8"], &edge_at).contains("8 contributions"));
    let (status, answer) = post(5..10).await;
    assert!(status == 200 && answer.matches("busy").count() == 2, "{answer}");
    assert_eq!(site.post(window, 0..60).await.0, 200, "another site has its own room");
    assert!(edge.terminate());
    edge = site.start("edge");
    until_ready(&site.admin).await;
    assert!(post(0..5).await.1.contains("duplicate"), "the site is there, and so is what it was sent");
    assert_eq!(post(20..21).await.0, 503, "and its quota");

    // A second version, and another start: the edge keeps the newest and does not stumble over the first.
    let first = fs::read(folder.path("docs.signed")).unwrap();
    folder.edit("docs.toml", "version = 1 ", "version = 2 ");
    folder.says(&["policy", "sign", "docs.toml", "--key", "docs.key", "--key", "stranger.key", "--out", "docs.signed"]);
    for at in [&centre_at, &edge_at] {
        assert!(says(&["site", "policy", "docs.signed"], at).contains("docs.example version 2 is in force"));
        // Signed with both keys, so that the new one may be pinned.
        assert!(says(&["site", "add", "docs.example", "--key", &stranger], at).contains("is added"));
    }
    // Cut off, too large, an older version again, and no number: each says why, and changes nothing.
    let newest = fs::read(folder.path("docs.signed")).unwrap();
    let put = async |what: &str, bytes: Vec<u8>| {
        let token = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");
        let address = format!("{edge_at}/admin/v1/sites/docs.example/{what}");
        let (status, _, said) = client.send(http::Method::PUT, &address, Some(token), bytes.into()).await.unwrap();
        (status.as_u16(), String::from_utf8(said.to_vec()).unwrap())
    };
    let (status, said) = put("policy", newest[..newest.len() / 2].to_vec()).await;
    assert!(status == 422 && said.contains("not a signed policy"), "{status} {said}");
    assert_eq!(put("policy", vec![0; Signed::BYTES + 1]).await.0, 413);
    assert_eq!(put("policy", newest).await.0, 200, "the one in force again");
    let (status, said) = put("policy", first).await;
    assert!(status == 422 && said.contains("not signed by the pinned key"), "{status} {said}");
    let (status, said) = put("quota", b"-1".to_vec()).await;
    assert!(status == 400 && said.contains("write a whole number"), "{status} {said}");

    // A folder that is no site's keeps no other from being served.
    fs::create_dir(folder.path("sites-ed").join("broken.example")).unwrap();
    assert!(edge.terminate());
    edge = site.start("edge");
    until_ready(&site.admin).await;
    let said = says(&["site", "list"], &edge_at);
    assert!(said.contains("versions 1,2") && !said.contains("broken"), "{said}");

    // What cannot be taken out is not half out.
    fs::write(folder.path("sites-ed.removing"), "in the way").unwrap();
    assert!(refused(&["site", "remove", "docs.example"], &edge_at).contains("sites-ed"));
    assert!(post(0..5).await.1.contains("duplicate"), "it is served as before");
    fs::remove_file(folder.path("sites-ed.removing")).unwrap();

    assert!(says(&["site", "remove", "docs.example"], &edge_at).contains("taken out"));
    let (status, answer) = post(30..31).await;
    assert!(status == 404 && answer.contains("unknown-site"), "it takes nothing any more: {status} {answer}");
    assert!(edge.terminate());
    edge = site.start("edge");
    until_ready(&site.admin).await;
    assert_eq!(post(30..31).await.0, 404, "a restart does not bring it back");
    // While its windows are open it may: as it was, with what was open.
    assert!(says(&["site", "add", "docs.example", "--key", &stranger], &edge_at).contains("is added"));
    assert!(says(&["site", "policy", "docs.signed"], &edge_at).contains("docs.example version 2 is in force"));
    assert!(post(0..5).await.1.contains("duplicate"));
    assert!(says(&["site", "remove", "docs.example"], &edge_at).contains("taken out"));
    // What is left of it keeps no other site from being added and served.
    folder.says(&["policy", "new", "--template", "saas", "--site", "example", "--out", "app.toml"]);
    folder.says(&["policy", "sign", "app.toml", "--key", "docs.key", "--out", "app.signed"]);
    assert!(says(&["site", "add", "example", "--key", &key], &edge_at).contains("is added"));
    assert!(says(&["site", "policy", "app.signed"], &edge_at).contains("example version 1 is in force"));
    assert!(says(&["site", "remove", "example"], &edge_at).contains("taken out"));
    assert!(refused(&["site", "remove", "docs.example"], &edge_at).contains("there is no site docs.example"));
    assert_eq!(says(&["site", "list"], &edge_at), "");
    assert!(edge.terminate() && centre.terminate());
}

#[test]
fn a_token_must_be_one_and_sites_need_a_folder() {
    let site = Site::new();
    fs::write(site.folder.path("token"), "short\n").unwrap();
    site.folder.edit("gloaming.toml", "# admin_token_file", "admin_token_file");
    assert!(site.folder.refuses(&["edge"]).contains("needs a sites_folder"));
    site.folder.edit("gloaming.toml", "# sites_folder", "sites_folder");
    assert!(site.folder.refuses(&["edge"]).contains("fewer than 20 characters"));
}
