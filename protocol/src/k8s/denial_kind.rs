//! Why a pod, or the controller, was refused: the closed set behind `error_kind`.

use crate::problem::{ErrorCode, RATE_LIMITED};

macro_rules! denial_kinds {
    ($($variant:ident = $text:literal, $code:ident, $describe:literal;)*) => {
        /// The precise kind of a refusal, as the audit trail and the Event on the pod name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DenialKind { $(#[doc = $describe] $variant,)* }

        impl DenialKind {
            /// Every kind, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// `error_kind` in the audit trail and in the denials feed.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What the caller is told: the closed vocabulary.
            pub const fn code(self) -> ErrorCode {
                match self { $(Self::$variant => ErrorCode::$code,)* }
            }

            /// What happened and what would be right, for the reference page and the Event.
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => $describe,)* }
            }
        }
    };
}

denial_kinds! {
    BearerMissing = "bearer_missing", Forbidden,
        "The request has no `Authorization: Bearer` header with a projected ServiceAccount token.";
    BearerMalformed = "bearer_malformed", Forbidden,
        "The bearer is not a JWT of three segments and at most 8 KiB.";
    BearerWrongAudience = "bearer_wrong_audience", Forbidden,
        "The ServiceAccount token was made for another audience than this installation's `AA_ATTEST_AUDIENCE`.";
    BearerExpired = "bearer_expired", Forbidden,
        "The ServiceAccount token has expired; the kubelet writes a new one into the projected volume.";
    SourceRateLimited = "source_rate_limited", RateLimited,
        "This network address asked for too many attestations in a short time.";
    TokenRejected = "token_rejected", Forbidden,
        "The API server does not accept the ServiceAccount token: forged, revoked, or its pod or ServiceAccount is gone.";
    AudienceNotConfirmed = "audience_not_confirmed", Forbidden,
        "The API server did not confirm the installation's audience for this token.";
    NotAServiceAccount = "not_a_service_account", Forbidden,
        "The token is not that of a ServiceAccount.";
    NotController = "not_controller", Forbidden,
        "Only the controller's ServiceAccount (`AA_CONTROLLER_SUBJECT`) may call this.";
    NotBoundToPod = "not_bound_to_pod", Forbidden,
        "The ServiceAccount token is not bound to a pod: use the projected token of the pod itself.";
    PodNotFound = "pod_not_found", Forbidden,
        "The pod that the token is bound to does not exist.";
    PodReplaced = "pod_replaced", Forbidden,
        "Another pod of the same name took the place of the one that the token is bound to.";
    PodTerminating = "pod_terminating", Forbidden,
        "The pod is being deleted.";
    PodFinished = "pod_finished", Forbidden,
        "The pod is neither Pending nor Running.";
    PodServiceAccountDiffers = "pod_service_account_differs", Forbidden,
        "The token's ServiceAccount is not the one that the pod runs under.";
    SidecarMissing = "sidecar_missing", Forbidden,
        "The pod has no init container `agentwrit-sidecar` with restartPolicy Always: it was not injected, or a copy left that out (docs/debugging.md).";
    SidecarPolicyMissing = "sidecar_policy_missing", Forbidden,
        "The pod's init container `agentwrit-sidecar` has no env `AGENTWRIT_LAUNCH_TOKEN`, which names the LaunchToken: make the pod anew and let it be injected (docs/debugging.md).";
    SidecarPolicyUnclear = "sidecar_policy_unclear", Forbidden,
        "The env `AGENTWRIT_LAUNCH_TOKEN` of the pod's init container `agentwrit-sidecar` must have a plain value: it has a valueFrom.";
    SidecarPolicyMismatch = "sidecar_policy_mismatch", Forbidden,
        "The env `AGENTWRIT_LAUNCH_TOKEN` of the pod's init container `agentwrit-sidecar` names another LaunchToken than the one asked for; an annotation that was changed later counts for new pods only.";
    PodEnded = "pod_ended", Forbidden,
        "The pod has ended; nothing is issued to it any more.";
    PodQuarantined = "pod_quarantined", Revoked,
        "A person revoked this pod's agent: nothing is issued until the pod is replaced or released by `awrit pod release`.";
    LaunchTokenNotFound = "launch_token_not_found", LaunchTokenNotFound,
        "The pod's namespace has no LaunchToken of that name.";
    LaunchTokenSuspended = "launch_token_suspended", Suspended,
        "The LaunchToken is suspended.";
    AppSuspended = "app_suspended", Suspended,
        "The AgentApp of the LaunchToken is suspended.";
    LaunchTokenNotReady = "launch_token_not_ready", PolicyNotReady,
        "The LaunchToken is withdrawn until it is repaired: see its Ready condition.";
    AppNotReady = "app_not_ready", PolicyNotReady,
        "The AgentApp of the LaunchToken is missing or withdrawn until it is repaired: see its Ready condition.";
    ServiceAccountNotAllowed = "service_account_not_allowed", ServiceAccountNotAllowed,
        "The pod's ServiceAccount is not listed in the LaunchToken's serviceAccountNames.";
    PodNotSelected = "pod_not_selected", PodNotSelected,
        "The pod's labels do not match the LaunchToken's podSelector.";
    PodLabelsTooMany = "pod_labels_too_many", PodNotSelected,
        "The LaunchToken has a podSelector, and the pod has more labels than the broker reads: at most 256.";
    ScopeNotAllowed = "scope_not_allowed", Forbidden,
        "The pod asked for a scope that AgentApp and LaunchToken do not both allow.";
    MaxActiveAgents = "max_active_agents", MaxActiveAgents,
        "As many pods hold live agents of the LaunchToken as its maxActiveAgents allows: the pod waits until one of them ends.";
    PodRateLimited = "pod_rate_limited", RateLimited,
        "The pod launches too often: one launch per 10 s, three at once.";
    ReservedOrchId = "reserved_orch_id", Forbidden,
        "An `orch_id` that starts with `k8s.` needs a launch token that was made for a pod.";
    OrchIdMismatch = "orch_id_mismatch", Forbidden,
        "The launch token is bound to another `orch_id`.";
    TaskIdMismatch = "task_id_mismatch", Forbidden,
        "The launch token is bound to another `task_id`.";
    KeyMismatch = "key_mismatch", Forbidden,
        "The launch token is bound to another public key.";
    PolicyChanged = "policy_changed", PolicyChanged,
        "AgentApp or LaunchToken changed since the launch: start over with a new launch token.";
    PolicyRemoved = "policy_removed", PolicyChanged,
        "The LaunchToken was removed or replaced since the launch: start over.";
    SupersededOften = "superseded_often", Superseded,
        "The pod registered three times within 10 minutes: its sidecar restarts, or two processes use its identity.";
}

impl DenialKind {
    /// What the caller is told when it is not proven yet that it is the pod in question.
    pub const ANONYMOUS_DETAIL: &'static str = "the caller is not allowed to do this";

    /// The sentence for the caller: precise once it has proven to be its pod, else one that tells nothing.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::BearerMissing
            | Self::BearerMalformed
            | Self::BearerWrongAudience
            | Self::BearerExpired
            | Self::TokenRejected
            | Self::AudienceNotConfirmed
            | Self::NotAServiceAccount
            | Self::NotController
            | Self::NotBoundToPod => Self::ANONYMOUS_DETAIL,
            Self::SourceRateLimited | Self::PodRateLimited => RATE_LIMITED,
            _ => self.describe(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinct_and_described() {
        let mut names: Vec<_> = DenialKind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DenialKind::ALL.len());
        for kind in DenialKind::ALL {
            assert!(kind.describe().ends_with('.'), "{kind:?}");
        }
    }

    #[test]
    fn only_the_closed_vocabulary_is_answered() {
        for kind in DenialKind::ALL {
            let status = kind.code().status();
            let wanted = match kind {
                DenialKind::LaunchTokenNotFound => 404,
                DenialKind::SourceRateLimited | DenialKind::PodRateLimited => 429,
                _ => 403,
            };
            assert_eq!(status, wanted, "{kind:?}");
        }
    }
}
