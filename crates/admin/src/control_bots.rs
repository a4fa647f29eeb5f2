//! The operator's actions on the real bots and the real hub: nothing but conversions.

use async_trait::async_trait;
use naru_bots::{Bots, ScheduleError, SendError, SetSettingsError};
use naru_domain::work::{DeviceRecord, RoomRecord, Schedule};
use naru_domain::{
    Approval, BotName, CloseReason, DeviceKey, MessageId, Offset, ReplyBody, RoomKey, ScheduleId,
    SessionId,
};
use naru_hub::session::SessionState as HubState;
use naru_hub::{Hub, SessionView};

use crate::control::{
    Control, ControlError, QueueState, Reloaded, SendRequest, SessionState, WorkerState,
};

/// [`Control`] over a node's bots and hub.
#[derive(Clone)]
pub struct BotsControl {
    bots: Bots,
    hub: Hub,
}

impl BotsControl {
    /// Controls these.
    #[must_use]
    pub fn new(bots: Bots, hub: Hub) -> BotsControl {
        BotsControl { bots, hub }
    }
}

impl From<SendError> for ControlError {
    fn from(error: SendError) -> ControlError {
        match error {
            SendError::NotFound { .. } => {
                ControlError::Store(naru_domain::ports::StoreError::NotFound)
            }
            SendError::NotApproved { .. } => ControlError::Conflict(error.to_string()),
            SendError::Invalid { reason } => ControlError::Invalid(reason),
            SendError::Unavailable { reason } => ControlError::Unavailable(reason),
        }
    }
}

impl From<SetSettingsError> for ControlError {
    fn from(error: SetSettingsError) -> ControlError {
        match error {
            SetSettingsError::Document(error) => ControlError::Invalid(error.to_string()),
            SetSettingsError::Store(error) => ControlError::Store(error),
        }
    }
}

impl From<ScheduleError> for ControlError {
    fn from(error: ScheduleError) -> ControlError {
        match error {
            ScheduleError::Invalid(problems) => {
                let problems: Vec<String> = problems
                    .iter()
                    .map(|problem| format!("{}: {}", problem.field, problem.message))
                    .collect();
                ControlError::Invalid(problems.join("; "))
            }
            ScheduleError::Store(error) => ControlError::Store(error),
            ScheduleError::Send(error) => error.into(),
        }
    }
}

fn session(view: SessionView) -> SessionState {
    let state = match view.state {
        HubState::Active => "active",
        HubState::Suspended { .. } => "suspended",
        HubState::Closed(_) => "closed",
    };
    SessionState {
        id: view.id,
        key: view.key.to_string(),
        label: view.label,
        kind: view.kind.to_owned(),
        state: state.to_owned(),
        generation: view.generation.0,
        peer: view.peer,
        connected_at: view.connected_at,
        queued: view.queued,
        queued_bytes: view.queued_bytes,
        handed_over: view.handed_over,
        next_offset: view.next_offset,
    }
}

#[async_trait]
impl Control for BotsControl {
    async fn set_device_approval(
        &self,
        device: DeviceKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<DeviceRecord, ControlError> {
        Ok(self.bots.set_device_approval(device, approval, note, revision).await?)
    }

    async fn set_room_approval(
        &self,
        room: RoomKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<RoomRecord, ControlError> {
        Ok(self.bots.set_room_approval(room, approval, note, revision).await?)
    }

    async fn set_device_frame_limit(
        &self,
        device: DeviceKey,
        frame_bytes_max: Option<u32>,
    ) -> Result<DeviceRecord, ControlError> {
        Ok(self.bots.set_device_frame_limit(device, frame_bytes_max).await?)
    }

    async fn set_settings(
        &self,
        bot: &BotName,
        document: &str,
        revision: i64,
    ) -> Result<i64, ControlError> {
        Ok(self.bots.set_settings(bot, document, revision).await?)
    }

    async fn reload(&self) -> Result<Reloaded, ControlError> {
        let report = self.bots.reload().await?;
        Ok(Reloaded { devices: report.devices, rooms: report.rooms, bots: report.bots })
    }

    async fn send(&self, request: SendRequest) -> Result<Vec<Offset>, ControlError> {
        let SendRequest { device, channel_id, room, body, idempotency_key } = request;
        let request = naru_bots::SendRequest { device, channel_id, room, body, idempotency_key };
        Ok(self.bots.send(request).await?)
    }

    async fn reply_later(
        &self,
        message: MessageId,
        replies: Vec<ReplyBody>,
        key: Option<String>,
    ) -> Result<Vec<Offset>, ControlError> {
        Ok(self.bots.reply_later(message, replies, key).await?)
    }

    async fn replay(&self, message: MessageId) -> Result<(), ControlError> {
        Ok(self.bots.replay(message).await?)
    }

    fn queue(&self) -> QueueState {
        let view = self.bots.queue();
        let worker = |worker: naru_bots::WorkerView| WorkerState {
            busy_for: worker.message.map(|_| worker.busy_for),
            message: worker.message,
            bot: worker.bot,
            is_stuck: worker.is_stuck,
        };
        QueueState {
            depth: view.waiting,
            capacity: view.limit,
            in_work: view.in_work,
            parked: view.parked,
            is_store_healthy: view.is_store_healthy,
            workers: view.workers.into_iter().map(worker).collect(),
        }
    }

    fn sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<SessionState> {
        self.hub.sessions(after, limit).into_iter().map(session).collect()
    }

    fn session(&self, id: SessionId) -> Option<SessionState> {
        self.hub.session(id).map(session)
    }

    fn close_session(&self, id: SessionId) -> bool {
        self.hub.close(id, CloseReason::Kicked)
    }

    async fn add_schedule(&self, schedule: Schedule) -> Result<Schedule, ControlError> {
        Ok(self.bots.add_schedule(schedule).await?)
    }

    async fn update_schedule(&self, schedule: Schedule) -> Result<Schedule, ControlError> {
        Ok(self.bots.update_schedule(schedule).await?)
    }

    async fn remove_schedule(&self, id: ScheduleId) -> Result<(), ControlError> {
        Ok(self.bots.remove_schedule(id).await?)
    }

    async fn run_schedule_now(&self, id: ScheduleId) -> Result<(), ControlError> {
        Ok(self.bots.run_schedule_now(id).await?)
    }
}
