//! What each subcommand does.

pub mod card;
pub mod component;
pub mod demo;
pub mod devices;
pub mod doctor;
pub mod evaluate;
pub mod gate;
pub mod learn;
pub mod logged;
pub mod model;
mod next;
pub mod plan;
pub mod policy;
pub mod recalibrate;
mod released;
pub mod report;
pub mod retrain;
pub mod rows;
pub mod score;
pub mod service;
mod sheet;
pub mod site;
pub mod tend;
