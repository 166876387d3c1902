//! The command's parts as a library, so that tests start what people start.
#![forbid(unsafe_code)]

pub mod alerting;
pub mod assets;
pub mod commands;
pub mod config;
pub mod demo;
pub mod door;
pub mod files;
pub mod runtimes;
pub mod shop;
pub mod sites;
pub mod tenants;
