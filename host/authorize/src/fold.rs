//! What is known of a condition once it is known which action it is asked about.

use std::sync::Arc;

use cedar_policy_core::ast::{BinaryOp, EntityUID, Expr, ExprKind, Literal, UnaryOp, Var};

use crate::looks::is_context;

/// A condition for one action.
#[derive(Clone, Debug)]
pub(crate) enum Folded {
    /// It is so, or not, whoever asks.
    Known(bool),
    /// It depends on the request.
    Open(Arc<Expr>),
}

/// `condition`, where `action` is asked about, whose risk is called `risk`.
///
/// It never decides what Cedar would stumble over: an operand is left out only where Cedar would not look at it either.
/// The conditions have been held to the schema, so that what stands beside `&&` and `||` is true or false.
pub(crate) fn fold(condition: &Arc<Expr>, action: &EntityUID, risk: &str) -> Folded {
    let ground = Ground { action, risk };
    match ground.fold(condition) {
        None => Folded::Open(condition.clone()),
        Some(expression) => match truth(&expression) {
            Some(known) => Folded::Known(known),
            None => Folded::Open(Arc::new(expression)),
        },
    }
}

struct Ground<'a> {
    action: &'a EntityUID,
    risk: &'a str,
}

impl Ground<'_> {
    /// What `expression` comes to; none where that is itself.
    fn fold(&self, expression: &Expr) -> Option<Expr> {
        match expression.expr_kind() {
            ExprKind::Var(Var::Action) => Some(Expr::val(self.action.clone())),
            ExprKind::GetAttr { expr, attr } if attr == "risk" && is_context(expr) => Some(Expr::val(self.risk)),
            ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => {
                self.both(arg1, arg2, |left, right| match (left.expr_kind(), right.expr_kind()) {
                    (ExprKind::Lit(left), ExprKind::Lit(right)) => Expr::val(left == right),
                    _ => Expr::is_eq(left, right),
                })
            }
            ExprKind::UnaryApp { op: UnaryOp::Not, arg } => {
                let arg = self.fold(arg)?;
                Some(truth(&arg).map_or_else(|| Expr::not(arg.clone()), |known| Expr::val(!known)))
            }
            ExprKind::And { left, right } => self.both(left, right, |left, right| match truth(&left) {
                Some(false) => left,
                Some(true) => right,
                None => Expr::and(left, right),
            }),
            ExprKind::Or { left, right } => self.both(left, right, |left, right| match truth(&left) {
                Some(true) => left,
                Some(false) => right,
                None => Expr::or(left, right),
            }),
            _ => None,
        }
    }

    /// What `join` makes of both; none where neither comes to something else.
    fn both(&self, left: &Arc<Expr>, right: &Arc<Expr>, join: impl FnOnce(Expr, Expr) -> Expr) -> Option<Expr> {
        let own = |folded: Option<Expr>, was: &Arc<Expr>| folded.unwrap_or_else(|| Expr::clone(was));
        match (self.fold(left), self.fold(right)) {
            (None, None) => None,
            (folded_left, folded_right) => Some(join(own(folded_left, left), own(folded_right, right))),
        }
    }
}

fn truth(expression: &Expr) -> Option<bool> {
    match expression.expr_kind() {
        ExprKind::Lit(Literal::Bool(known)) => Some(*known),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(condition: &str) -> String {
        let action: EntityUID = "Action::\"http.send\"".parse().unwrap();
        match fold(&Arc::new(condition.parse().unwrap()), &action, "high") {
            Folded::Known(known) => known.to_string(),
            Folded::Open(expression) => expression.to_string(),
        }
    }

    #[test]
    fn what_the_action_says_is_not_asked_for_each_request() {
        assert_eq!(folded(r#"context.risk == "high""#), "true");
        assert_eq!(folded(r#"!(context.risk == "high")"#), "false");
        assert_eq!(folded(r#"context.risk == "low" && principal.level < 1"#), "false");
        assert_eq!(folded(r#"context.risk == "high" && principal.level < 1"#), folded("principal.level < 1"));
        assert_eq!(folded(r#"context.risk == "low" || principal.level < 1"#), folded("principal.level < 1"));
        assert_eq!(folded(r#"action == Action::"http.send" && principal.level < 1"#), folded("principal.level < 1"));
        assert_eq!(folded(r#"action == Action::"task.create" && principal.level < 1"#), "false");
    }

    /// What stands first is evaluated first, and may fail.
    #[test]
    fn what_stands_before_is_asked_all_the_same() {
        let kept = folded(r#"context.budget_micros < 5 && context.risk == "low""#);
        assert!(kept.contains("budget_micros") && kept.contains("false"), "{kept}");
        let kept = folded(r#"context.budget_micros < 5 || context.risk == "high""#);
        assert!(kept.contains("budget_micros") && kept.contains("true"), "{kept}");
    }

    #[test]
    fn what_depends_on_the_request_stays() {
        for condition in
            ["principal.level < 1", "context.time.hour == 3", "resource.risk == \"high\"", "context has risk"]
        {
            let action: EntityUID = "Action::\"http.send\"".parse().unwrap();
            let parsed: Arc<Expr> = Arc::new(condition.parse().unwrap());
            assert!(matches!(fold(&parsed, &action, "high"), Folded::Open(open) if Arc::ptr_eq(&open, &parsed)));
        }
    }
}
