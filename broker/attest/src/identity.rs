//! From the API server's answers to who the caller is: pure decisions.

use agentwrit_protocol::PodUid;
use agentwrit_protocol::k8s::DenialKind;

use crate::{PodFacts, Review, SidecarPolicy};

/// A ServiceAccount that the API server vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `system:serviceaccount:<namespace>:<name>`.
    pub username: String,
    /// Namespace of the ServiceAccount, and so of its pod.
    pub namespace: String,
    /// Name of the ServiceAccount.
    pub service_account: String,
    /// The pod that the token is bound to, if it is.
    pub pod: Option<BoundPod>,
}

/// The pod that a token is bound to, as the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundPod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: PodUid,
    /// `spec.nodeName`, where the API server tells.
    pub node: Option<String>,
}

/// Reads a review: authenticated, for our audience, and a ServiceAccount's.
pub(super) fn caller(review: Review, audience: &str) -> Result<Caller, DenialKind> {
    if !review.authenticated {
        return Err(DenialKind::TokenRejected);
    }
    // An empty list means: valid for the API server itself. That is not us.
    if !review.audiences.iter().any(|confirmed| confirmed == audience) {
        return Err(DenialKind::AudienceNotConfirmed);
    }
    let mut parts = review.username.split(':');
    let (Some("system"), Some("serviceaccount"), Some(namespace), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(DenialKind::NotAServiceAccount);
    };
    if namespace.is_empty() || name.is_empty() {
        return Err(DenialKind::NotAServiceAccount);
    }
    let pod = match (review.pod_name, review.pod_uid) {
        (Some(name), Some(uid)) if !name.is_empty() && !uid.is_empty() => Some(BoundPod {
            name,
            uid: uid.into(),
            node: review.node,
        }),
        _ => None,
    };
    Ok(Caller {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
        username: review.username,
        pod,
    })
}

/// Whether the pod that exists is the caller's, alive, and its own sidecar is to ask for this policy.
pub(super) fn check_pod(
    caller: &Caller,
    bound: &BoundPod,
    pod: Option<&PodFacts>,
    policy: &str,
) -> Result<(), DenialKind> {
    let pod = pod.ok_or(DenialKind::PodNotFound)?;
    if pod.uid != bound.uid {
        return Err(DenialKind::PodReplaced);
    }
    if pod.terminating {
        return Err(DenialKind::PodTerminating);
    }
    if !matches!(pod.phase.as_str(), "Pending" | "Running") {
        return Err(DenialKind::PodFinished);
    }
    if pod.service_account != caller.service_account {
        return Err(DenialKind::PodServiceAccountDiffers);
    }
    match &pod.sidecar {
        SidecarPolicy::NoSidecar => Err(DenialKind::SidecarMissing),
        SidecarPolicy::Missing => Err(DenialKind::SidecarPolicyMissing),
        SidecarPolicy::Unclear => Err(DenialKind::SidecarPolicyUnclear),
        SidecarPolicy::Named(name) if name == policy => Ok(()),
        SidecarPolicy::Named(_) => Err(DenialKind::SidecarPolicyMismatch),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::PodLabels;

    const OURS: &str = "agentwrit://agentwrit-system/agentwrit";

    fn review() -> Review {
        Review {
            authenticated: true,
            audiences: vec![OURS.into()],
            username: "system:serviceaccount:shop:order-reader".into(),
            pod_name: Some("orders-1".into()),
            pod_uid: Some("uid-1".into()),
            node: Some("node-1".into()),
        }
    }

    fn pod() -> PodFacts {
        PodFacts {
            uid: "uid-1".into(),
            terminating: false,
            phase: "Running".into(),
            service_account: "order-reader".into(),
            node: None,
            sidecar: SidecarPolicy::Named("order-reader".into()),
            labels: PodLabels::default(),
        }
    }

    #[test]
    fn a_pod_is_known_by_its_token() {
        let caller = caller(review(), OURS).unwrap();
        assert_eq!(
            (caller.namespace.as_str(), caller.service_account.as_str()),
            ("shop", "order-reader")
        );
        assert_eq!(caller.pod.unwrap().uid, "uid-1");
    }

    #[test]
    fn a_review_is_accepted_only_for_our_audience() {
        type Change = fn(&mut Review);
        let table: [(Change, DenialKind); 6] = [
            (|r| r.authenticated = false, DenialKind::TokenRejected),
            (|r| r.audiences.clear(), DenialKind::AudienceNotConfirmed),
            (
                |r| r.audiences = vec!["https://kubernetes.default.svc".into()],
                DenialKind::AudienceNotConfirmed,
            ),
            (|r| r.username = "admin".into(), DenialKind::NotAServiceAccount),
            (
                |r| r.username = "system:serviceaccount:shop:".into(),
                DenialKind::NotAServiceAccount,
            ),
            (
                |r| r.username = "system:serviceaccount:a:b:c".into(),
                DenialKind::NotAServiceAccount,
            ),
        ];
        for (change, wanted) in table {
            let mut review = review();
            change(&mut review);
            assert_eq!(caller(review, OURS), Err(wanted));
        }
    }

    #[test]
    fn a_token_without_both_pod_claims_is_bound_to_none() {
        for change in [
            |r: &mut Review| r.pod_uid = None,
            |r: &mut Review| r.pod_name = Some(String::new()),
        ] {
            let mut review = review();
            change(&mut review);
            assert_eq!(caller(review, OURS).unwrap().pod, None);
        }
    }

    #[test]
    fn every_difference_of_the_pod_has_its_kind() {
        type Change = fn(&mut PodFacts);
        let table: [(Change, DenialKind); 9] = [
            (|p| p.uid = "uid-2".into(), DenialKind::PodReplaced),
            (|p| p.terminating = true, DenialKind::PodTerminating),
            (|p| p.phase = "Succeeded".into(), DenialKind::PodFinished),
            (|p| p.phase = "Unknown".into(), DenialKind::PodFinished),
            (
                |p| p.service_account = "default".into(),
                DenialKind::PodServiceAccountDiffers,
            ),
            (|p| p.sidecar = SidecarPolicy::NoSidecar, DenialKind::SidecarMissing),
            (|p| p.sidecar = SidecarPolicy::Missing, DenialKind::SidecarPolicyMissing),
            (|p| p.sidecar = SidecarPolicy::Unclear, DenialKind::SidecarPolicyUnclear),
            (
                |p| p.sidecar = SidecarPolicy::Named("other".into()),
                DenialKind::SidecarPolicyMismatch,
            ),
        ];
        let caller = caller(review(), OURS).unwrap();
        let bound = caller.pod.clone().unwrap();
        for (change, wanted) in table {
            let mut pod = pod();
            change(&mut pod);
            assert_eq!(check_pod(&caller, &bound, Some(&pod), "order-reader"), Err(wanted));
        }
        assert_eq!(
            check_pod(&caller, &bound, None, "order-reader"),
            Err(DenialKind::PodNotFound)
        );
        assert_eq!(check_pod(&caller, &bound, Some(&pod()), "order-reader"), Ok(()));
    }
}
