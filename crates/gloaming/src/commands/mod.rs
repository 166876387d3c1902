//! What each subcommand does.

pub mod card;
pub mod component;
pub mod demo;
pub mod doctor;
pub mod evaluate;
pub mod gate;
pub mod model;
pub mod plan;
pub mod policy;
pub mod recalibrate;
pub mod rows;
pub mod service;
pub mod site;
