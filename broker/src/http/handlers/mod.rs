//! Handlers: parse, call one service function, map one error enum.

pub mod admin;
pub mod app_auth;
pub mod apps;
pub mod audit;
pub mod delegate;
pub mod discovery;
pub mod health;
pub mod k8s;
pub mod keys;
pub mod launch;
pub mod lifecycle;
pub mod ops;
pub mod public;
pub mod register;
pub mod revoke_matching;
