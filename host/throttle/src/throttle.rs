//! Rates and tasks at once, by key, user, tenant and address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    bucket::{Empty, Rate},
    table::{CLIENTS, Naming, Table, Who},
};

/// Whose rate or share it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The address that asks; of IPv6, its /64.
    Address,
    /// The tenant.
    Tenant,
    /// The user, or whatever else is the principal.
    User,
    /// The key.
    Key,
}

impl By {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 4] = [Self::Address, Self::Tenant, Self::User, Self::Key];

    /// The word that stands for it in answers, metrics and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Key => "key",
        }
    }
}

/// What one client may ask. None is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests in a second, in the long run.
    pub per_second: Option<u32>,
    /// Requests in a minute, in the long run.
    pub per_minute: Option<u32>,
    /// Requests at once on top of `per_second`: the size of that bucket. None is as many as come in a second.
    pub burst: Option<u32>,
    /// Tasks that run or wait at once.
    pub tasks: Option<u32>,
}

impl Rates {
    fn buckets(self) -> [Option<Rate>; 2] {
        let second = self.per_second.map(|count| Rate::new(count, SECOND, self.burst.unwrap_or(count)));
        [second, self.per_minute.map(|count| Rate::new(count, MINUTE, count))]
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const WINDOWS: [Duration; 2] = [SECOND, MINUTE];

/// What clients may ask, by whose it is. The default limits nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Each address.
    pub address: Rates,
    /// Each tenant.
    pub tenant: Rates,
    /// Each user.
    pub user: Rates,
    /// Each key.
    pub key: Rates,
}

impl Settings {
    /// The rates of one dimension.
    #[must_use]
    pub fn of(&self, by: By) -> Rates {
        match by {
            By::Address => self.address,
            By::Tenant => self.tenant,
            By::User => self.user,
            By::Key => self.key,
        }
    }
}

/// Who asks, as far as that is known. Users and keys of one name in two tenants are two.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The user, or whatever else is the principal.
    pub user: Option<&'a str>,
    /// The key's id; never the key.
    pub key: Option<&'a str>,
    /// Where the request comes from.
    pub address: Option<IpAddr>,
}

/// A rate, and where a client stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose rate.
    pub by: By,
    /// Requests in the window.
    pub quota: u32,
    /// The window.
    pub window: Duration,
    /// Requests that would pass at once now.
    pub remaining: u32,
    /// How long until all of them would.
    pub reset: Duration,
}

/// Where a client stands in every rate it is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing(pub Vec<Policy>);

impl Standing {
    /// The rate that leaves least.
    #[must_use]
    pub fn tightest(&self) -> Option<&Policy> {
        self.0.iter().min_by_key(|policy| (policy.remaining, std::cmp::Reverse(policy.reset)))
    }
}

/// A request that is over a rate or share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// Over a rate.
    #[error("this {} asks more than {quota} in {} s; `host.requests.{}.{setting}` is the setting", .by.name(), .window.as_secs(), .by.name())]
    Rate {
        /// Whose.
        by: By,
        /// Requests in the window.
        quota: u32,
        /// The window.
        window: Duration,
        /// The setting under that of whose it is.
        setting: &'static str,
        /// After which time the same request would pass.
        wait: Duration,
        /// Where the client stands.
        standing: Standing,
    },
    /// One request weighs more than ever passes at once.
    #[error("the request weighs {cost}, and this {} may ask {most} at once; send less at a time", .by.name())]
    Heavy {
        /// Whose rate.
        by: By,
        /// What it weighs.
        cost: u32,
        /// What passes at once.
        most: u32,
    },
    /// As many tasks as may be run or wait already.
    #[error("{most} tasks of this {} run or wait; `host.requests.{}.tasks` is the setting", .by.name(), .by.name())]
    Tasks {
        /// Whose.
        by: By,
        /// How many may be at once.
        most: u32,
    },
}

impl Over {
    /// Whose rate or share it is.
    #[must_use]
    pub fn by(&self) -> By {
        match self {
            Self::Rate { by, .. } | Self::Heavy { by, .. } | Self::Tasks { by, .. } => *by,
        }
    }

    /// After which time it may help to ask again; none where it never will.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Rate { wait, .. } => Some(*wait),
            // Nobody knows when a task will end.
            Self::Tasks { .. } => Some(SECOND),
            Self::Heavy { .. } => None,
        }
    }
}

/// Holds clients to their rates and shares. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Throttle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    naming: Naming,
    /// Whether anybody is limited: where nobody is, no request pays for it.
    limits: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    tables: [Table; 4],
    /// Tasks at once, by whose they are. Whoever has none is not in it.
    tasks: HashMap<(By, Who), u32>,
}

/// A task of a client, among those that run or wait until this is dropped.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    counted: Vec<(By, Who)>,
}

impl Lease {
    /// Whether it counts for anybody: where no share is set, there is nothing to give back.
    #[must_use]
    pub fn counts(&self) -> bool {
        !self.counted.is_empty()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        for key in &self.counted {
            if let Some(count) = state.tasks.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    state.tasks.remove(key);
                }
            }
        }
    }
}

impl Throttle {
    /// Holds clients to `settings`.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::bounded(settings, CLIENTS)
    }

    fn bounded(settings: Settings, clients: usize) -> Self {
        let tables = By::ALL.map(|_| Table::new(clients));
        Self(Arc::new(Shared {
            began: Instant::now(),
            naming: Naming::default(),
            limits: AtomicBool::new(settings != Settings::default()),
            state: Mutex::new(State { settings, tables, tasks: HashMap::new() }),
        }))
    }

    /// Holds clients to `settings` from now on. What they have asked lately still counts.
    pub fn replace(&self, settings: Settings) {
        self.0.state.lock().settings = settings;
        self.0.limits.store(settings != Settings::default(), Ordering::Relaxed);
    }

    /// Lets a request of `client` that weighs `cost` pass at `now`, and says where the client stands then. A request that
    /// is refused costs nothing.
    ///
    /// # Errors
    /// When it is over a rate.
    pub fn admit(&self, client: &Client<'_>, cost: u32, now: Instant) -> Result<Standing, Over> {
        if !self.0.limits.load(Ordering::Relaxed) {
            return Ok(Standing::default());
        }
        // 0 stands for a bucket that is full.
        let now = u64::try_from(now.saturating_duration_since(self.0.began).as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut state = self.0.state.lock();
        let State { settings, tables, .. } = &mut *state;
        let mut standing = Standing::default();
        let mut taken = [None; 4];
        let mut over = None;
        for (slot, by, table) in slots(&mut taken, tables) {
            let rates = settings.of(by).buckets();
            let Some(who) = self.who(by, client).filter(|_| rates.iter().any(Option::is_some)) else { continue };
            table.make_room(who, now);
            let mut buckets = table.get(who);
            for (window, (bucket, rate)) in buckets.iter_mut().zip(rates).enumerate() {
                let (Some(rate), Some(length)) = (rate, WINDOWS.get(window)) else { continue };
                let quota = quota(settings.of(by), window);
                match rate.take(*bucket, now, cost) {
                    Ok(after) => *bucket = after.full_at,
                    Err(empty) => over = worse(over, by, window, empty, rate.burst),
                }
                standing.0.push(Policy {
                    by,
                    quota,
                    window: *length,
                    remaining: rate.remaining(*bucket, now),
                    reset: Rate::until_full(*bucket, now),
                });
            }
            *slot = Some((who, buckets));
        }
        if let Some((by, window, empty, most)) = over {
            let setting = if window == 0 { "per-second" } else { "per-minute" };
            let window_length = WINDOWS.get(window).copied().unwrap_or(SECOND);
            return Err(match empty {
                Empty::Always => Over::Heavy { by, cost, most },
                Empty::For(wait) => {
                    let quota = quota(settings.of(by), window);
                    Over::Rate { by, quota, window: window_length, setting, wait, standing }
                }
            });
        }
        for (slot, _, table) in slots(&mut taken, tables) {
            if let Some((who, buckets)) = slot.take() {
                table.set(who, buckets);
            }
        }
        Ok(standing)
    }

    /// Counts a task of `client` until the lease is dropped.
    ///
    /// # Errors
    /// When as many run or wait as may.
    pub fn begin_task(&self, client: &Client<'_>) -> Result<Lease, Over> {
        self.count(client, |by, number, most| if number < most { Ok(()) } else { Err(Over::Tasks { by, most }) })
    }

    /// The same, of a task that was accepted before and goes on, however many there are.
    #[must_use]
    pub fn resume_task(&self, client: &Client<'_>) -> Lease {
        let counted = self.count(client, |_, _, _| Ok::<_, std::convert::Infallible>(()));
        counted.unwrap_or_else(|never| match never {})
    }

    /// Counts a task of `client`, if it `may` be counted to the number of those that there are, of at most so many.
    fn count<E>(&self, client: &Client<'_>, may: impl Fn(By, u32, u32) -> Result<(), E>) -> Result<Lease, E> {
        let mut lease = Lease { shared: self.0.clone(), counted: Vec::new() };
        if !self.0.limits.load(Ordering::Relaxed) {
            return Ok(lease);
        }
        let mut state = self.0.state.lock();
        let mut keys = Vec::new();
        for by in By::ALL {
            let (Some(most), Some(who)) = (state.settings.of(by).tasks, self.who(by, client)) else { continue };
            may(by, state.tasks.get(&(by, who)).copied().unwrap_or(0), most)?;
            keys.push((by, who));
        }
        for key in &keys {
            *state.tasks.entry(*key).or_default() += 1;
        }
        drop(state);
        lease.counted = keys;
        Ok(lease)
    }

    fn who(&self, by: By, client: &Client<'_>) -> Option<Who> {
        let naming = &self.0.naming;
        match by {
            By::Address => client.address.map(|address| naming.of(&network(address))),
            By::Tenant => Some(naming.of(&client.tenant)),
            By::User => client.user.map(|user| naming.of(&(client.tenant, user))),
            By::Key => client.key.map(|key| naming.of(&(client.tenant, key))),
        }
    }

    #[cfg(test)]
    fn clients(&self) -> usize {
        let state = self.0.state.lock();
        state.tables.iter().map(Table::len).sum::<usize>() + state.tasks.len()
    }
}

type Found = Option<(Who, crate::table::Buckets)>;

fn slots<'a>(
    taken: &'a mut [Found; 4],
    tables: &'a mut [Table; 4],
) -> impl Iterator<Item = (&'a mut Found, By, &'a mut Table)> {
    taken.iter_mut().zip(By::ALL).zip(tables).map(|((slot, by), table)| (slot, by, table))
}

fn quota(rates: Rates, window: usize) -> u32 {
    let quota = if window == 0 { rates.per_second } else { rates.per_minute };
    quota.unwrap_or(0)
}

type Worst = Option<(By, usize, Empty, u32)>;

/// What lasts longer: what is over more than one rate passes when the last of them lets it.
fn worse(worst: Worst, by: By, window: usize, empty: Empty, most: u32) -> Worst {
    let lasts = |empty: Empty| match empty {
        Empty::For(wait) => wait,
        Empty::Always => Duration::MAX,
    };
    match worst {
        Some(worst) if lasts(worst.2) >= lasts(empty) => Some(worst),
        _ => Some((by, window, empty, most)),
    }
}

/// The network that one client is likely to have: whoever has one IPv6 address has 2^64.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client<'a>(tenant: &'a str, user: &'a str, key: &'a str, address: [u8; 4]) -> Client<'a> {
        Client { tenant, user: Some(user), key: Some(key), address: Some(IpAddr::from(address)) }
    }

    fn rates(per_second: u32) -> Rates {
        Rates { per_second: Some(per_second), ..Rates::default() }
    }

    fn passes(throttle: &Throttle, client: &Client<'_>, now: Instant) -> usize {
        (0..1_000).take_while(|_| throttle.admit(client, 1, now).is_ok()).count()
    }

    #[test]
    fn each_dimension_holds_by_itself_and_names_itself() {
        let now = Instant::now();
        for by in By::ALL {
            let mut settings = Settings::default();
            match by {
                By::Address => settings.address = rates(2),
                By::Tenant => settings.tenant = rates(2),
                By::User => settings.user = rates(2),
                By::Key => settings.key = rates(2),
            }
            let throttle = Throttle::new(settings);
            let one = client("acme", "ann", "k1", [10, 0, 0, 1]);
            assert_eq!(passes(&throttle, &one, now), 2);
            let over = throttle.admit(&one, 1, now).unwrap_err();
            assert_eq!(over.by(), by);
            assert!(over.to_string().contains(&format!("host.requests.{}.per-second", by.name())), "{over}");
            assert_eq!(over.wait(), Some(Duration::from_millis(500)));
            let other = client("other", "bob", "k2", [10, 0, 0, 2]);
            assert_eq!(passes(&throttle, &other, now), 2, "{by:?} of another");
        }
    }

    #[test]
    fn names_of_two_tenants_are_two() {
        let throttle = Throttle::new(Settings { user: rates(1), key: rates(1), ..Settings::default() });
        let now = Instant::now();
        for tenant in ["a", "b"] {
            assert_eq!(passes(&throttle, &client(tenant, "ann", "k", [1, 1, 1, 1]), now), 1, "{tenant}");
        }
    }

    #[test]
    fn what_is_refused_costs_nothing_anywhere() {
        let throttle = Throttle::new(Settings { tenant: rates(10), key: rates(1), ..Settings::default() });
        let now = Instant::now();
        let one = client("acme", "ann", "k1", [1, 1, 1, 1]);
        assert_eq!(passes(&throttle, &one, now), 1);
        for _ in 0..100 {
            assert!(throttle.admit(&one, 1, now).is_err());
        }
        let left = (0..20).filter(|key| {
            let key = format!("another-{key}");
            throttle.admit(&client("acme", "ann", &key, [1, 1, 1, 1]), 1, now).is_ok()
        });
        assert_eq!(left.count(), 9, "the tenant lost one token");
    }

    #[test]
    fn seconds_minutes_bursts_and_weights_hold_together() {
        let settings = Rates { per_second: Some(10), per_minute: Some(15), burst: Some(12), tasks: None };
        let throttle = Throttle::new(Settings { tenant: settings, ..Settings::default() });
        let now = Instant::now();
        let one = client("acme", "ann", "k", [1, 1, 1, 1]);
        let standing = throttle.admit(&one, 12, now).unwrap();
        let left: Vec<u32> = standing.0.iter().map(|policy| policy.remaining).collect();
        assert_eq!(left, [0, 3]);
        assert_eq!(standing.tightest().unwrap().window, Duration::from_secs(1));
        assert!(throttle.admit(&one, 1, now).is_err());
        let later = now + Duration::from_secs(2);
        assert!(throttle.admit(&one, 3, later).is_ok());
        let Err(Over::Rate { window, setting, wait, .. }) = throttle.admit(&one, 3, later) else { panic!("over") };
        assert_eq!((window, setting), (Duration::from_secs(60), "per-minute"));
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(12), "{wait:?}");
        let heavy = throttle.admit(&one, 13, later).unwrap_err();
        assert_eq!((heavy.wait(), heavy), (None, Over::Heavy { by: By::Tenant, cost: 13, most: 12 }));
    }

    #[test]
    fn tasks_at_once_are_counted_until_they_end() {
        let most = |tasks| Rates { tasks: Some(tasks), ..Rates::default() };
        let throttle = Throttle::new(Settings { tenant: most(3), user: most(2), ..Settings::default() });
        let (ann, bob) = (client("acme", "ann", "k", [1; 4]), client("acme", "bob", "k", [1; 4]));
        let leases = [throttle.begin_task(&ann).unwrap(), throttle.begin_task(&ann).unwrap()];
        assert_eq!(throttle.begin_task(&ann).unwrap_err(), Over::Tasks { by: By::User, most: 2 });
        let third = throttle.begin_task(&bob).unwrap();
        assert_eq!(throttle.begin_task(&bob).unwrap_err(), Over::Tasks { by: By::Tenant, most: 3 });
        drop(leases);
        assert!(throttle.begin_task(&ann).is_ok());
        drop(third);
        assert_eq!(throttle.clients(), 0, "who has no task takes no room");
        // What was accepted before counts, and is not held to the number.
        let before: Vec<_> = (0..3).map(|_| throttle.resume_task(&ann)).collect();
        assert_eq!(throttle.begin_task(&bob).unwrap_err(), Over::Tasks { by: By::Tenant, most: 3 });
        drop(before);
        assert_eq!(throttle.clients(), 0);
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let throttle = Throttle::new(Settings { address: rates(1), ..Settings::default() });
        let now = Instant::now();
        let from = |address: &str| {
            let address = Some(address.parse().unwrap());
            throttle.admit(&Client { tenant: "t", user: None, key: None, address }, 1, now).is_ok()
        };
        assert!(from("2001:db8::1") && !from("2001:db8::2") && from("2001:db8:0:1::1"));
        assert!(from("192.0.2.1") && !from("::ffff:192.0.2.1") && from("192.0.2.2"));
    }

    #[test]
    fn new_rates_hold_from_now_on() {
        let throttle = Throttle::new(Settings::default());
        let one = client("acme", "ann", "k", [1; 4]);
        let now = Instant::now();
        assert_eq!(passes(&throttle, &one, now), 1_000);
        throttle.replace(Settings { tenant: rates(1), ..Settings::default() });
        assert_eq!(passes(&throttle, &one, now), 1);
    }

    proptest! {
        /// A flood of made-up addresses, users and keys takes no more room than the bound, and gets no more through than
        /// the bound's clients and the one bucket that the rest share.
        #[test]
        fn a_flood_of_names_cannot_grow_the_table(names in 0_u32..5_000, most in 1_usize..64) {
            let one = Rates { per_minute: Some(1), ..Rates::default() };
            let throttle = Throttle::bounded(Settings { address: one, user: one, key: one, ..Settings::default() }, most);
            let now = Instant::now();
            let mut passed = 0;
            for number in 0..names {
                let name = number.to_string();
                let from = client("acme", &name, &name, number.to_be_bytes());
                passed += usize::from(throttle.admit(&from, 1, now).is_ok());
                prop_assert!(throttle.clients() <= 3 * most);
            }
            prop_assert!(passed <= most + 1);
            let later = now + Duration::from_secs(61);
            prop_assert!(throttle.admit(&client("acme", "new", "new", [9; 4]), 1, later).is_ok(), "room is made again");
        }
    }
}
