//! The running supervisor.
#![expect(dead_code, reason = "the loop is being written")]
mod handle;
mod view;
pub use handle::{WardError, Wards};
pub use view::{
    AnswerView, BackupView, ExplainView, FigureView, LinesQuery, LinesView, OperationView, Ordered,
    OwnView, ScheduleView, WardDetail, WardView,
};
