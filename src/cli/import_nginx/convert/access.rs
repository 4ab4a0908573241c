//! Who may come: what of nginx's access control is carried over, and a word of caution for all that is not, so that nothing opens without one.

use super::{Importer, Scope, location::OF_LOCATION};
use crate::cli::import_nginx::{parse::Directive, reasons};

impl Importer {
    /// Whether nobody may come to a location. Of rules that cannot be kept it is told, wherever they stand: a block that has any hides those around it.
    pub(super) fn is_closed(&mut self, scope: &Scope<'_>) -> bool {
        let levels =
            scope.0.iter().map(|level| level.iter().filter(|one| ["allow", "deny"].contains(&one.name.as_str())).collect::<Vec<_>>());
        let Some((depth, rules)) = levels.enumerate().rfind(|(_, rules)| !rules.is_empty()) else { return false };
        // The first that fits counts.
        if reasons::lets_in(rules[0]) {
            return false;
        }
        if rules[0].name == "deny" && rules[0].arg(0) == "all" {
            let satisfy = scope.last("satisfy").filter(|satisfy| satisfy.arg(0) == "any");
            if let Some(any) = satisfy.filter(|_| scope.0.iter().copied().flatten().any(|one| one.name.starts_with("auth_"))) {
                self.caution(any, "CAUTION: whom a password or another word lets in is kept out too: everybody gets 403");
            }
            return true;
        }
        // Those of `http` have been told of.
        for rule in rules.into_iter().filter(|_| depth > 0) {
            self.caution(rule, reasons::why("deny"));
        }
        false
    }

    /// Says once of a directive that it did not carry over.
    pub(super) fn caution(&mut self, directive: &Directive, why: &str) {
        if !self.cautioned.contains(&directive.place) {
            self.cautioned.push(directive.place.clone());
            let comment = self.notes.dropped(directive, why);
            self.draft.routes.push(comment);
        }
    }

    /// Notes about what is not carried over of a block.
    pub(super) fn leftovers(&mut self, block: &[Directive]) {
        self.leftovers_but(block, |_| false);
    }

    /// The same, but for what is carried over.
    pub(super) fn leftovers_but(&mut self, block: &[Directive], is_carried: impl Fn(&Directive) -> bool) {
        let mut comments = self.notes.rest(block, &OF_LOCATION);
        for directive in block.iter().filter(|one| !is_carried(one)) {
            match directive.name.as_str() {
                "if" => comments.push(self.notes.dropped(directive, why_not(directive))),
                "access_log" => comments.push(self.notes.dropped(directive, "there is one access log for all routes; its JSON names them")),
                _ => {}
            }
        }
        self.draft.routes.append(&mut comments);
    }

    /// `limit_except`: the methods that are let through, and what refuses the others.
    pub(super) fn limited_methods<'a>(&mut self, block: &'a [Directive]) -> (Vec<String>, Option<&'a Directive>) {
        let Some(limit) = block.iter().find(|one| one.name == "limit_except") else { return (Vec::new(), None) };
        let denies = limit.children().first().is_some_and(|first| first.name == "deny" && first.arg(0) == "all");
        if !denies {
            self.caution(limit, reasons::why("deny"));
            return (Vec::new(), None);
        }
        let mut methods: Vec<String> = Vec::new();
        for method in limit.args.iter().map(|method| method.to_ascii_uppercase()) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        (methods, Some(limit))
    }
}

/// Whether a location is for nginx itself, which holds for those in it too.
pub(super) fn is_internal(scope: &Scope<'_>) -> bool {
    scope.0.iter().skip(2).any(|level| level.iter().any(|one| one.name == "internal"))
}

/// Why an `if` did not carry over: with caution where it keeps somebody out, be it by sending them to where they log in.
pub(super) fn why_not(condition: &Directive) -> String {
    // Whatever answers there, or is not known, keeps its requests from the backend.
    let keeps_out = condition.children().iter().any(|one| match one.name.as_str() {
        "return" | "rewrite" => true,
        name if name.ends_with("_pass") || name.contains("_by_lua") || name.starts_with("echo") => true,
        name if ["allow", "deny"].contains(&name) || !OF_LOCATION.contains(&name) => reasons::why_of(one).starts_with("CAUTION"),
        _ => false,
    });
    let caution = if keeps_out { "CAUTION: whom it keeps out, or sends elsewhere, comes in: " } else { "" };
    format!("{caution}{}", reasons::why("if"))
}
