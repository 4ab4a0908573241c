use clap::{CommandFactory, Parser};

use super::*;
use crate::envelope::{Delivery, Reason};

#[derive(clap::Parser)]
struct Cli {
    #[command(subcommand)]
    command: DeadCommand,
}

fn request() -> Request {
    Request {
        id: "0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b".into(),
        state: State::Dead,
        backend: "admin".into(),
        route: "order-upload".into(),
        method: "POST".into(),
        target: "/admin/orders/".into(),
        body_bytes: 2048,
        reason: Reason::Down,
        delivery: Delivery::AtLeastOnce,
        accepted_at: "2026-11-22T12:00:00.000Z".into(),
        expires_at: "2026-11-23T12:00:00.000Z".into(),
        changed_at: "2026-11-22T12:01:00.000Z".into(),
        attempts: 3,
        max_attempts: 8,
        due_at: None,
        position: None,
        dead_reason: Some(DeadReason::Refused),
        last_outcome: "422 Unprocessable Content".into(),
        response_status: Some(422),
    }
}

#[test]
fn a_list_shows_why_each_died_and_where_it_goes_on() {
    let expected = "\
ID                                    DIED                      REASON   BACKEND  ROUTE         REQUEST                SIZE     ATTEMPTS  LAST OUTCOME
0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b  2026-11-22T12:01:00.000Z  refused  admin    order-upload  POST /admin/orders/  2.0 KiB       3/8  422 Unprocessable Content
";
    let mut found = Requests { requests: vec![request()], next: None };
    let squeeze = |text: &str| text.split([' ', '\n']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(squeeze(&page(&found)), squeeze(expected));
    found.next = Some(request().id);
    assert!(page(&found).ends_with("there are more: see them with --after 0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b, or raise --limit\n"));
    assert_eq!(page(&Requests { requests: Vec::new(), next: None }), "no dead letters\n");
}

#[test]
fn a_redrive_says_what_it_did() {
    let said = |matched, redriven, dry_run| sentence(Redriven { matched, redriven, dry_run });
    assert_eq!(said(0, 0, false), "no dead letter matches\n");
    assert_eq!(said(7, 0, true), "would queue 7 dead letters again\n");
    assert_eq!(said(7, 7, false), "queued 7 dead letters again\n");
    assert_eq!(said(7, 5, false), "queued 5 dead letters again; 2 more were gone by then\n");
}

#[test]
fn the_command_line_takes_what_the_contract_says() {
    Cli::command().debug_assert();
    let parse = |line: &str| Cli::try_parse_from(["dead"].into_iter().chain(line.split(' '))).map(|cli| cli.command);
    let Ok(DeadCommand::Redrive(redrive)) = parse("redrive --dry-run --backend admin --reason auth-expired") else { panic!() };
    assert!(
        redrive.dry_run && redrive.filter.reason == Some(DeadReason::AuthExpired) && redrive.filter.backend.as_deref() == Some("admin")
    );
    assert!(matches!(
        parse("list --route order-upload --output json"),
        Ok(DeadCommand::List(ListArgs { output: Output::Json, limit: 100, .. }))
    ));
    for wrong in ["list --reason lost", "list --limit 0", "list --after 42", "redrive --rate 5/s"] {
        assert_eq!(parse(wrong).err().unwrap().exit_code(), 2, "{wrong}");
    }
}
