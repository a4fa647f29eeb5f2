//! What all handlers share, and the three things nearly each of them does: narrow to the caller's bots,
//! write the audit log, and notice bulk reads.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use naru_domain::work::{AuditEntry, DeviceRecord};
use naru_domain::{BotName, DeviceKey, Timestamp};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::wards::Jobs;
use crate::auth::{Auth, Caller, Moment};
use crate::bottleneck::Watch;
use crate::control::Control;
use crate::error::{ApiError, Code};
use crate::keyed::{Buckets, BulkAlarm};
use crate::mask;
use crate::metrics::AdminMetrics;
use crate::options::{AdminOptions, MEDIA_BODIES_MAX, WATCHES_MAX};
use crate::services::Services;
use crate::ward_control::WardServices;

/// The longest detail of an audit entry, in bytes; the port takes 4 KiB.
const AUDIT_DETAIL_BYTES_MAX: usize = 4096;
/// Devices whose bot is remembered. A device never changes its bot.
const KNOWN_DEVICES_MAX: usize = 20_000;

/// The state of the API; a cheap handle.
#[derive(Clone)]
pub(crate) struct Api(Arc<ApiState>);

pub(crate) struct ApiState {
    pub(crate) services: Services,
    pub(crate) options: AdminOptions,
    pub(crate) auth: Auth,
    pub(crate) per_source: Buckets,
    pub(crate) metrics: AdminMetrics,
    pub(crate) media_places: Arc<Semaphore>,
    pub(crate) watch_places: Arc<Semaphore>,
    pub(crate) stages: Watch,
    pub(crate) ward_jobs: Jobs,
    /// Ends what would go on for long: streams and waits.
    pub(crate) stop: CancellationToken,
    bulk: BulkAlarm,
    known_devices: Mutex<HashMap<DeviceKey, BotName>>,
}

impl Deref for Api {
    type Target = ApiState;

    fn deref(&self) -> &ApiState {
        &self.0
    }
}

impl Api {
    pub(crate) fn new(
        options: AdminOptions,
        services: Services,
        metrics: AdminMetrics,
        stop: CancellationToken,
    ) -> Api {
        let limits = &options.limits;
        Api(Arc::new(ApiState {
            auth: Auth::new(&options, &services.ports),
            per_source: Buckets::new(limits.source_per_second, limits.source_burst),
            bulk: BulkAlarm::new(limits.bulk_requests_per_minute, limits.bulk_rows_per_minute),
            metrics,
            media_places: Arc::new(Semaphore::new(MEDIA_BODIES_MAX)),
            watch_places: Arc::new(Semaphore::new(WATCHES_MAX)),
            stages: Watch::default(),
            ward_jobs: Jobs::default(),
            stop,
            known_devices: Mutex::default(),
            services,
            options,
        }))
    }

    /// The bots' side, on nodes that have it.
    pub(crate) fn control(&self) -> Result<&Arc<dyn Control>, ApiError> {
        let absent = || ApiError::new(Code::NoSuchRoute, "this node looks after wards only");
        self.services.control.as_ref().ok_or_else(absent)
    }

    /// The wards, on nodes that look after any.
    pub(crate) fn wards(&self) -> Result<&WardServices, ApiError> {
        let absent = || ApiError::new(Code::NoSuchRoute, "this node looks after no wards");
        self.services.wards.as_ref().ok_or_else(absent)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.services.clock.now()
    }

    /// Now, on the clock that cannot be set as well.
    pub(crate) fn moment(&self) -> Moment {
        Moment::now(self.services.clock.as_ref())
    }

    /// Appends to the audit log. Whoever cannot be recorded may not act, so errors end the request.
    pub(crate) async fn audit(
        &self,
        caller: &Caller,
        action: &str,
        object: &str,
        detail: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let mut detail = detail.to_string();
        if detail.len() > AUDIT_DETAIL_BYTES_MAX {
            detail = json!({ "cut": true, "bytes": detail.len() }).to_string();
        }
        let entry = AuditEntry {
            at: self.now(),
            actor: caller.name.to_string(),
            source: caller.source.to_string(),
            action: action.to_owned(),
            object: object.to_owned(),
            detail,
        };
        Ok(self.services.ports.audit.append_audit(&entry).await?)
    }

    /// Does something that is on record: the entry is written first, so that nothing happens without
    /// one; if it fails after all, a second entry says so.
    pub(crate) async fn recorded<T, E: Into<ApiError>>(
        &self,
        caller: &Caller,
        action: &str,
        object: &str,
        detail: serde_json::Value,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ApiError> {
        self.audit(caller, action, object, &detail).await?;
        match work.await {
            Ok(done) => Ok(done),
            Err(error) => {
                let error: ApiError = error.into();
                let failed = format!("{action}.failed");
                let why = json!({ "code": error.code.label() });
                if let Err(second) = self.audit(caller, &failed, object, &why).await {
                    tracing::warn!(
                        target: "naru::admin", code = second.code.label(), "failure not audited"
                    );
                }
                Err(error)
            }
        }
    }

    /// Somebody looks at personal data. Masked rows need no entry.
    pub(crate) async fn looked_at(
        &self,
        caller: &Caller,
        action: &str,
        object: &str,
        rows: usize,
        detail: serde_json::Value,
    ) -> Result<(), ApiError> {
        if !mask::sees_all(caller.role) {
            return Ok(());
        }
        self.audit(caller, action, object, &detail).await?;
        if self.bulk.rings(&caller.name, rows, Instant::now()) {
            self.metrics.bulk_reads.increment();
            tracing::warn!(target: "naru::admin", actor = %caller.name, "bulk read of personal data");
            self.audit(caller, "alarm.bulk_read", object, &json!({})).await?;
        }
        Ok(())
    }

    /// Which bot a list is narrowed to, given what was asked for and what the caller may see.
    pub(crate) fn bot_filter(
        &self,
        caller: &Caller,
        asked: Option<&str>,
    ) -> Result<Option<BotName>, ApiError> {
        let parse = |raw: &str| {
            BotName::parse(raw).map_err(|error| ApiError::new(Code::BadQuery, error.to_string()))
        };
        match (asked, &*caller.bots) {
            (Some(asked), _) if caller.sees_bot(asked) => parse(asked).map(Some),
            (Some(_), _) => Err(ApiError::plain(Code::OutOfScope)),
            (None, []) => Ok(None),
            (None, [only]) => parse(only).map(Some),
            (None, _several) => Err(ApiError::plain(Code::BotRequired)),
        }
    }

    /// A device that the caller may see. Others are as if they did not exist.
    pub(crate) async fn device(
        &self,
        caller: &Caller,
        key: DeviceKey,
    ) -> Result<DeviceRecord, ApiError> {
        let device = self.services.ports.devices.device(key).await?;
        if !caller.sees_bot(device.bot.as_str()) {
            return Err(ApiError::plain(Code::NotFound));
        }
        Ok(device)
    }

    /// The bot of a device.
    pub(crate) async fn bot_of(&self, key: DeviceKey) -> Result<BotName, ApiError> {
        if let Some(bot) = self.known_devices.lock().get(&key) {
            return Ok(bot.clone());
        }
        let bot = self.services.ports.devices.device(key).await?.bot;
        let mut known = self.known_devices.lock();
        if known.len() >= KNOWN_DEVICES_MAX {
            known.clear();
        }
        known.insert(key, bot.clone());
        Ok(bot)
    }

    /// The bot of a device for a list, where a device that is gone is no reason to fail.
    pub(crate) async fn bot_name_of(&self, key: DeviceKey) -> Result<String, ApiError> {
        match self.bot_of(key).await {
            Ok(bot) => Ok(bot.to_string()),
            Err(error) if error.code == Code::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// Whether the caller may see what belongs to this device.
    pub(crate) async fn sees_device(
        &self,
        caller: &Caller,
        key: DeviceKey,
    ) -> Result<bool, ApiError> {
        if caller.bots.is_empty() {
            return Ok(true);
        }
        Ok(caller.sees_bot(&self.bot_name_of(key).await?))
    }

    /// The same as an error: what may not be seen does not exist.
    pub(crate) async fn must_see_device(
        &self,
        caller: &Caller,
        key: DeviceKey,
    ) -> Result<(), ApiError> {
        if self.sees_device(caller, key).await? {
            return Ok(());
        }
        Err(ApiError::plain(Code::NotFound))
    }
}
