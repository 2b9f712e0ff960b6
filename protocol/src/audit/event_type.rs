//! The closed set of event types, and the outcome.

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The closed set of event types.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventType { $($(#[$doc])* $variant,)* }

        impl EventType {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

event_types! {
    /// Admin login.
    AdminAuth = "admin_auth",
    /// Admin login with a wrong secret.
    AdminAuthFailed = "admin_auth_failed",
    /// A launch token was made.
    LaunchTokenIssued = "launch_token_issued",
    /// A launch token was refused.
    LaunchTokenDenied = "launch_token_denied",
    /// An app asked for more than its ceiling.
    ScopeCeilingExceeded = "scope_ceiling_exceeded",
    /// An agent registered.
    AgentRegistered = "agent_registered",
    /// Its token was issued.
    TokenIssued = "token_issued",
    /// A registration asked for more than its launch token allows.
    RegistrationPolicyViolation = "registration_policy_violation",
    /// A token was renewed.
    TokenRenewed = "token_renewed",
    /// A renewal was refused.
    TokenRenewalFailed = "token_renewal_failed",
    /// A token was given back.
    TokenReleased = "token_released",
    /// A person revoked.
    TokenRevoked = "token_revoked",
    /// A person revoked all that pods of a name hold.
    BulkRevocation = "bulk_revocation",
    /// A delegation was made.
    DelegationCreated = "delegation_created",
    /// A delegation asked for more than its delegator holds.
    DelegationAttenuationViolation = "delegation_attenuation_violation",
    /// A bearer was refused.
    TokenAuthFailed = "token_auth_failed",
    /// A revoked bearer was used.
    TokenRevokedAccess = "token_revoked_access",
    /// A bearer lacked the endpoint's scope.
    ScopeViolation = "scope_violation",
    /// An app was registered.
    AppRegistered = "app_registered",
    /// An app was changed.
    AppUpdated = "app_updated",
    /// An app was deregistered.
    AppDeregistered = "app_deregistered",
    /// An app logged in.
    AppAuthenticated = "app_authenticated",
    /// An app's login was refused.
    AppAuthFailed = "app_auth_failed",
    /// A source met a rate limit.
    AppRateLimited = "app_rate_limited",
    /// A pod was refused a launch token.
    AttestationDenied = "attestation_denied",
    /// A policy was written.
    PolicyApplied = "policy_applied",
    /// A policy was removed.
    PolicyRemoved = "policy_removed",
    /// A pod ended, and its sessions with it.
    PodEnded = "pod_ended",
    /// A later registration of the same pod took over.
    AgentSuperseded = "agent_superseded",
    /// A person's revocation hit an attested agent.
    PodQuarantined = "pod_quarantined",
    /// A person lifted the quarantine.
    PodReleased = "pod_released",
    /// A registration was refused.
    RegistrationDenied = "registration_denied",
    /// The store was found to be a restored one, or declared so.
    StoreRestored = "store_restored",
    /// A person took the wall clock for right although the store had seen a later time; a new epoch began.
    ClockAccepted = "clock_accepted",
    /// A person said that the store has moved to another installation, or to another trust domain.
    InstallationAdopted = "installation_adopted",
    /// A signing key was published.
    KeyPublished = "key_published",
    /// A person asked for another signing key.
    KeyRotationRequested = "key_rotation_requested",
    /// Tokens of a signing key are accepted no more.
    KeyRetired = "key_retired",
    /// A person began a new epoch: all tokens of before are refused.
    EpochBegun = "epoch_begun",
    /// The chain so far, signed.
    AuditCheckpoint = "audit_checkpoint",
    /// A segment of the trail was dropped, exported before or not.
    AuditSegmentDropped = "audit_segment_dropped",
}

/// `success` or `denied`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused.
    Denied,
}

impl Outcome {
    /// The outcome on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
        }
    }
}
