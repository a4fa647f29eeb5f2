//! `docs/protocols/games.md`: its table of protocols says what the code does.

use naru_games::Protocol;

#[test]
fn the_page_lists_every_protocol_as_it_is() {
    let page = include_str!("../../../../docs/protocols/games.md");
    let table = page.split("## Protocols").nth(1).and_then(|rest| rest.split("## ").next());
    let rows: Vec<Vec<&str>> = table
        .expect("a section")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let expected: Vec<Vec<String>> = Protocol::all()
        .map(|protocol| {
            let said = |does: bool| (if does { "yes" } else { "no" }).to_owned();
            vec![
                format!("`{protocol}`"),
                (if protocol.is_datagram() { "UDP" } else { "TCP" }).to_owned(),
                protocol.default_port().map_or("–".to_owned(), |port| port.to_string()),
                said(protocol.wants_password()),
                said(protocol.counts()),
                said(protocol.names()),
                said(protocol.tells()),
            ]
        })
        .collect();
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(&expected) {
        let over = row[1].split(',').next().unwrap_or_default();
        let row = [&[row[0], over][..], &row[2..]].concat();
        assert_eq!(row, *expected);
    }
}
