//! The store's ports over plain vectors, with a switch that makes all of them fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use naru_domain::phone::PhoneHello;
use naru_domain::ports::{
    Accounts, Audit, BotSettings, ChatLog, Devices, Monitors, Rooms, Schedules, StoreError, Tokens,
};
use naru_domain::work::{
    Account, AuditEntry, AuditVerdict, ChainedAudit, DeviceRecord, MessageFilter, MessageRecord,
    Page, PingSample, ReplyRecord, RoomRecord, Schedule, ScheduleRun, SystemSample, TokenRecord,
};
use naru_domain::{Approval, BotName, DeviceKey, MessageId, RoomKey, ScheduleId, Timestamp};
use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) devices: Vec<DeviceRecord>,
    pub(crate) rooms: Vec<RoomRecord>,
    pub(crate) bots: Vec<(String, String, i64)>,
    pub(crate) messages: Vec<MessageRecord>,
    pub(crate) replies: Vec<ReplyRecord>,
    pub(crate) schedules: Vec<Schedule>,
    pub(crate) runs: Vec<ScheduleRun>,
    pub(crate) pings: Vec<PingSample>,
    pub(crate) looks: Vec<SystemSample>,
    pub(crate) tokens: Vec<TokenRecord>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) audit: Vec<AuditEntry>,
    pub(crate) last_filter: Option<MessageFilter>,
}

#[derive(Default)]
pub(crate) struct StoreTwin {
    pub(crate) rows: Mutex<Rows>,
    pub(crate) is_busy: AtomicBool,
    pub(crate) token_reads: AtomicUsize,
}

impl StoreTwin {
    fn with<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> Result<T, StoreError> {
        if self.is_busy.load(SeqCst) {
            return Err(StoreError::Busy { reason: "twin /secret/path".to_owned() });
        }
        Ok(work(&mut self.rows.lock()))
    }

    /// The actions on record, oldest first.
    pub(crate) fn actions(&self) -> Vec<String> {
        self.rows.lock().audit.iter().map(|entry| entry.action.clone()).collect()
    }
}

fn paged<T: Clone>(rows: impl Iterator<Item = T>, key: impl Fn(&T) -> i64, page: Page) -> Vec<T> {
    rows.filter(|row| page.after.is_none_or(|after| key(row) > after)).take(page.limit).collect()
}

fn newest<T: Clone>(
    rows: impl DoubleEndedIterator<Item = T>,
    key: impl Fn(&T) -> i64,
    page: Page,
) -> Vec<T> {
    rows.rev()
        .filter(|row| page.after.is_none_or(|after| key(row) < after))
        .take(page.limit)
        .collect()
}

#[async_trait]
impl Devices for StoreTwin {
    async fn greet(
        &self,
        _hello: &PhoneHello,
        _initial: Approval,
        _now: Timestamp,
    ) -> Result<DeviceRecord, StoreError> {
        Err(StoreError::NotFound)
    }

    async fn device(&self, key: DeviceKey) -> Result<DeviceRecord, StoreError> {
        let found = self.with(|rows| rows.devices.iter().find(|row| row.key == key).cloned())?;
        found.ok_or(StoreError::NotFound)
    }

    async fn devices(
        &self,
        bot: Option<&BotName>,
        approval: Option<Approval>,
        page: Page,
    ) -> Result<Vec<DeviceRecord>, StoreError> {
        self.with(|rows| {
            let fits = rows.devices.iter().filter(|row| {
                bot.is_none_or(|bot| row.bot == *bot)
                    && approval.is_none_or(|approval| row.approval == approval)
            });
            paged(fits.cloned(), |row| row.key.0, page)
        })
    }

    async fn set_device_approval(
        &self,
        key: DeviceKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<DeviceRecord, StoreError> {
        self.with(|rows| {
            let row = rows.devices.iter_mut().find(|row| row.key == key);
            let row = row.ok_or(StoreError::NotFound)?;
            if revision.is_some_and(|revision| revision != row.revision) {
                return Err(StoreError::Conflict);
            }
            row.approval = approval;
            note.clone_into(&mut row.approval_note);
            row.revision += 1;
            Ok(row.clone())
        })?
    }

    async fn set_device_frame_limit(
        &self,
        key: DeviceKey,
        frame_bytes_max: Option<u32>,
    ) -> Result<DeviceRecord, StoreError> {
        self.with(|rows| {
            let row = rows.devices.iter_mut().find(|row| row.key == key);
            let row = row.ok_or(StoreError::NotFound)?;
            row.frame_bytes_max = frame_bytes_max;
            row.revision += 1;
            Ok(row.clone())
        })?
    }
}

#[async_trait]
impl Rooms for StoreTwin {
    async fn find_or_create_room(
        &self,
        _device: DeviceKey,
        _channel_id: &str,
        _name: &str,
        _initial: Approval,
        _now: Timestamp,
    ) -> Result<RoomRecord, StoreError> {
        Err(StoreError::NotFound)
    }

    async fn room(&self, key: RoomKey) -> Result<RoomRecord, StoreError> {
        let found = self.with(|rows| rows.rooms.iter().find(|row| row.key == key).cloned())?;
        found.ok_or(StoreError::NotFound)
    }

    async fn rooms(
        &self,
        bot: Option<&BotName>,
        device: Option<DeviceKey>,
        approval: Option<Approval>,
        page: Page,
    ) -> Result<Vec<RoomRecord>, StoreError> {
        self.with(|rows| {
            let of_bot = |key: DeviceKey| {
                bot.is_none_or(|bot| {
                    rows.devices.iter().any(|row| row.key == key && row.bot == *bot)
                })
            };
            let fits = rows.rooms.iter().filter(|row| {
                of_bot(row.device)
                    && device.is_none_or(|device| row.device == device)
                    && approval.is_none_or(|approval| row.approval == approval)
            });
            paged(fits.cloned(), |row| row.key.0, page)
        })
    }

    async fn set_room_approval(
        &self,
        key: RoomKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<RoomRecord, StoreError> {
        self.with(|rows| {
            let row = rows.rooms.iter_mut().find(|row| row.key == key);
            let row = row.ok_or(StoreError::NotFound)?;
            if revision.is_some_and(|revision| revision != row.revision) {
                return Err(StoreError::Conflict);
            }
            row.approval = approval;
            note.clone_into(&mut row.approval_note);
            row.revision += 1;
            Ok(row.clone())
        })?
    }
}

#[async_trait]
impl BotSettings for StoreTwin {
    async fn bot_settings(
        &self,
        _bot: &BotName,
        _initial: &str,
        _now: Timestamp,
    ) -> Result<(String, i64), StoreError> {
        Err(StoreError::NotFound)
    }

    async fn bots(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String, i64)>, StoreError> {
        self.with(|rows| {
            let fits =
                rows.bots.iter().filter(|row| after.is_none_or(|after| row.0.as_str() > after));
            fits.take(limit).cloned().collect()
        })
    }

    async fn set_bot_settings(
        &self,
        bot: &BotName,
        document: &str,
        revision: i64,
    ) -> Result<i64, StoreError> {
        self.with(|rows| {
            let row = rows.bots.iter_mut().find(|row| row.0 == bot.as_str());
            let row = row.ok_or(StoreError::NotFound)?;
            if row.2 != revision {
                return Err(StoreError::Conflict);
            }
            document.clone_into(&mut row.1);
            row.2 += 1;
            Ok(row.2)
        })?
    }
}

#[async_trait]
impl ChatLog for StoreTwin {
    async fn messages(
        &self,
        filter: &MessageFilter,
        page: Page,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        self.with(|rows| {
            rows.last_filter = Some(filter.clone());
            let of_bot = |key: DeviceKey| {
                filter.bot.as_ref().is_none_or(|bot| {
                    rows.devices.iter().any(|row| row.key == key && row.bot == *bot)
                })
            };
            let fits = rows.messages.iter().filter(|row| {
                of_bot(row.device)
                    && filter.device.is_none_or(|device| row.device == device)
                    && filter.room.is_none_or(|room| row.room == Some(room))
                    && filter.state.is_none_or(|state| row.state == state)
                    && filter.search.as_ref().is_none_or(|text| row.text.contains(text.as_str()))
                    && filter.from.is_none_or(|from| row.received_at >= from)
                    && filter.until.is_none_or(|until| row.received_at < until)
            });
            newest(fits.cloned(), |row| row.id.0, page)
        })
    }

    async fn message(&self, id: MessageId) -> Result<MessageRecord, StoreError> {
        let found = self.with(|rows| rows.messages.iter().find(|row| row.id == id).cloned())?;
        found.ok_or(StoreError::NotFound)
    }

    async fn replies(&self, message: MessageId) -> Result<Vec<ReplyRecord>, StoreError> {
        self.with(|rows| {
            rows.replies.iter().filter(|row| row.message == Some(message)).cloned().collect()
        })
    }

    async fn recent_log_ids(
        &self,
        _since: Timestamp,
        _limit: usize,
    ) -> Result<Vec<(DeviceKey, Box<str>)>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Schedules for StoreTwin {
    async fn add_schedule(&self, schedule: &Schedule) -> Result<Schedule, StoreError> {
        self.with(|rows| {
            let mut kept = schedule.clone();
            kept.id = ScheduleId(i64::try_from(rows.schedules.len()).expect("few rows") + 1);
            kept.revision = 1;
            rows.schedules.push(kept.clone());
            kept
        })
    }

    async fn update_schedule(&self, schedule: &Schedule) -> Result<Schedule, StoreError> {
        self.with(|rows| {
            let row = rows.schedules.iter_mut().find(|row| row.id == schedule.id);
            let row = row.ok_or(StoreError::NotFound)?;
            if row.revision != schedule.revision {
                return Err(StoreError::Conflict);
            }
            *row = Schedule { revision: row.revision + 1, ..schedule.clone() };
            Ok(row.clone())
        })?
    }

    async fn remove_schedule(&self, id: ScheduleId) -> Result<(), StoreError> {
        self.with(|rows| {
            let count = rows.schedules.len();
            rows.schedules.retain(|row| row.id != id);
            if rows.schedules.len() == count { Err(StoreError::NotFound) } else { Ok(()) }
        })?
    }

    async fn schedule(&self, id: ScheduleId) -> Result<Schedule, StoreError> {
        let found = self.with(|rows| rows.schedules.iter().find(|row| row.id == id).cloned())?;
        found.ok_or(StoreError::NotFound)
    }

    async fn schedules(&self, page: Page) -> Result<Vec<Schedule>, StoreError> {
        self.with(|rows| paged(rows.schedules.iter().cloned(), |row| row.id.0, page))
    }

    async fn due_schedules(
        &self,
        _now: Timestamp,
        _limit: usize,
    ) -> Result<Vec<Schedule>, StoreError> {
        Ok(Vec::new())
    }

    async fn claim_schedule(
        &self,
        _id: ScheduleId,
        _due_at: Timestamp,
        _next_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn log_schedule_run(&self, run: &ScheduleRun) -> Result<(), StoreError> {
        self.with(|rows| rows.runs.push(run.clone()))
    }

    async fn schedule_runs(
        &self,
        id: ScheduleId,
        page: Page,
    ) -> Result<Vec<ScheduleRun>, StoreError> {
        self.with(|rows| {
            let fits = rows.runs.iter().filter(|row| row.schedule == id);
            newest(fits.cloned(), |row| row.id, page)
        })
    }
}

#[async_trait]
impl Monitors for StoreTwin {
    async fn add_pings(&self, samples: &[PingSample]) -> Result<(), StoreError> {
        self.with(|rows| rows.pings.extend_from_slice(samples))
    }

    async fn pings(
        &self,
        device: DeviceKey,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<PingSample>, StoreError> {
        self.with(|rows| {
            let fits = rows.pings.iter().filter(|row| row.device == device && row.at >= since);
            fits.take(limit).cloned().collect()
        })
    }

    async fn add_system_sample(&self, sample: &SystemSample) -> Result<(), StoreError> {
        self.with(|rows| rows.looks.push(sample.clone()))
    }

    async fn system_samples(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<SystemSample>, StoreError> {
        self.with(|rows| {
            rows.looks.iter().filter(|row| row.at >= since).take(limit).cloned().collect()
        })
    }
}

#[async_trait]
impl Tokens for StoreTwin {
    async fn add_token(&self, token: &TokenRecord) -> Result<i64, StoreError> {
        self.with(|rows| {
            let id = i64::try_from(rows.tokens.len()).expect("few rows") + 1;
            rows.tokens.push(TokenRecord { id, ..token.clone() });
            id
        })
    }

    async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>, StoreError> {
        self.token_reads.fetch_add(1, SeqCst);
        self.with(|rows| rows.tokens.iter().find(|row| row.hash == *hash).cloned())
    }

    async fn tokens(&self, page: Page) -> Result<Vec<TokenRecord>, StoreError> {
        self.with(|rows| paged(rows.tokens.iter().cloned(), |row| row.id, page))
    }

    async fn revoke_token(&self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        self.with(|rows| {
            let row = rows.tokens.iter_mut().find(|row| row.id == id);
            row.ok_or(StoreError::NotFound)?.revoked_at = Some(now);
            Ok(())
        })?
    }

    async fn touch_token(&self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        self.with(|rows| {
            if let Some(row) = rows.tokens.iter_mut().find(|row| row.id == id) {
                row.used_at = Some(now);
            }
        })
    }
}

#[async_trait]
impl Accounts for StoreTwin {
    async fn put_account(&self, account: &Account) -> Result<(), StoreError> {
        self.with(|rows| {
            rows.accounts.retain(|row| row.name != account.name);
            rows.accounts.push(account.clone());
            rows.accounts.sort_by(|a, b| a.name.cmp(&b.name));
        })
    }

    async fn account(&self, name: &str) -> Result<Option<Account>, StoreError> {
        self.with(|rows| rows.accounts.iter().find(|row| row.name == name).cloned())
    }

    async fn accounts(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        self.with(|rows| {
            let fits = rows
                .accounts
                .iter()
                .filter(|row| after.is_none_or(|after| row.name.as_str() > after));
            fits.take(limit).cloned().collect()
        })
    }

    async fn remove_account(&self, name: &str) -> Result<(), StoreError> {
        self.with(|rows| rows.accounts.retain(|row| row.name != name))
    }
}

#[async_trait]
impl Audit for StoreTwin {
    async fn append_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.with(|rows| rows.audit.push(entry.clone()))
    }

    async fn audit(&self, page: Page) -> Result<Vec<ChainedAudit>, StoreError> {
        self.with(|rows| {
            let chained = rows.audit.iter().zip(1..).map(|(entry, id)| ChainedAudit {
                id,
                entry: entry.clone(),
                hash: [7; 32],
            });
            newest(chained.collect::<Vec<_>>().into_iter(), |row| row.id, page)
        })
    }

    async fn verify_audit(&self) -> Result<AuditVerdict, StoreError> {
        self.with(|rows| AuditVerdict {
            entries: i64::try_from(rows.audit.len()).expect("few rows"),
            broken_at: None,
        })
    }
}
