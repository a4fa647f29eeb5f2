//! The running supervisor: one loop that owns all wards, executes what their lives ask for, and answers callers. It
//! decides nothing itself: `life` does, and `learn`, `schedule`, `measure`. Everything that takes time is a task
//! that sends its news back to the loop.
//!
//! `begin` finds the games again, `supervisor` is the loop, `act` carries out what a life asks for, `tick` looks
//! at processes and logs, `ask` asks the games, `order` answers callers, `notice` tells and keeps. `charge` is
//! what the loop knows of one ward, `policy` translates a profile into what a life needs.

mod act;
mod answer;
mod ask;
mod begin;
mod charge;
mod copy;
mod evidence;
mod figures;
mod handle;
mod keeper;
mod news;
mod notice;
mod options;
mod plans;
mod policy;
mod supervisor;
mod talk;
mod tick;
mod view;

pub use figures::WardFigures;
pub use handle::{WardError, Wards};
pub use options::{SupervisorOptions, SupervisorPorts};
pub use supervisor::Supervisor;
pub use view::{
    AnswerView, BackupView, ExplainView, FigureView, LinesQuery, LinesView, OperationView, Ordered,
    OwnView, ScheduleView, WardDetail, WardView,
};
