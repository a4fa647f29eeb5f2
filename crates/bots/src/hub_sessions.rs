//! The hub behind [`PhoneSessions`].

use naru_domain::{CloseReason, Delivery, DeviceKey, SessionId};
use naru_hub::{Delivered, Hub, SessionSpec, SessionView};

use crate::sessions::{Handed, PhoneSession, PhoneSessions, SessionState};

/// What the keys of phones' sessions begin with.
const KEY_PREFIX: &str = "phone:";

/// See the module.
pub(crate) struct HubSessions(pub(crate) Hub);

fn state_of(view: SessionView) -> Option<SessionState> {
    let device = DeviceKey(view.key.strip_prefix(KEY_PREFIX)?.parse().ok()?);
    Some(SessionState {
        session: view.id,
        device,
        label: view.label,
        peer: view.peer,
        connected_for: view.connected_for,
        queued: view.queued,
        handed_over: view.handed_over,
    })
}

impl PhoneSessions for HubSessions {
    fn open(&self, phone: PhoneSession) -> SessionId {
        self.0.open(SessionSpec {
            key: format!("{KEY_PREFIX}{}", phone.device),
            label: phone.label,
            kind: "phone",
            device: phone.is_recorded.then_some(phone.device),
            suspend_for: None,
            handed_over: phone.handed_over,
            retained: phone.retained,
        })
    }

    fn deliver(&self, session: SessionId, delivery: Delivery) -> Handed {
        match self.0.deliver(session, delivery) {
            Delivered::NoSuchSession => Handed::NoSession,
            Delivered::Dropped => Handed::Dropped,
            _ => Handed::Taken,
        }
    }

    fn state(&self, session: SessionId) -> Option<SessionState> {
        state_of(self.0.session(session)?)
    }

    fn forget(&self, session: SessionId) {
        self.0.remove(session, CloseReason::Idle);
    }
}
