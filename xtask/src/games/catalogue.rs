//! Which game servers there are, how each is started on 127.0.0.1 and how it ends. Facts, tried with the versions of
//! Debian 12; `{root}` is where the packages were unpacked, for the rest see [`super::prepare`].

/// A server from Debian's archive.
pub(super) struct Game {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
    /// Below the root. The real program where Debian's wrapper has paths of the system in it.
    pub(super) program: &'static str,
    /// One after the other; in groups only to be read.
    pub(super) args: &'static [&'static [&'static str]],
    pub(super) env: &'static [(&'static str, &'static str)],
    pub(super) files: &'static [(&'static str, &'static str)],
    pub(super) ports: &'static [(&'static str, &'static str)],
    pub(super) ready: &'static str,
    /// A datagram in hex that any server of this kind answers. For those that can be told to end only somewhat
    /// later than `ready`: when they have answered and their main thread sleeps.
    pub(super) question: Option<&'static str>,
    pub(super) ends: &'static [(&'static str, End)],
    pub(super) input: Option<&'static str>,
}

/// How a process ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    Code(u8),
    Signal(u8),
}

/// Not brought, though others depend on them: what only players see or hear, and what only the scripts of an
/// installation call. Textures, player models and Red Eclipse's data alone are 1.1 GB.
pub(super) const NOT_BROUGHT: &[&str] = &[
    "adduser",
    "debconf",
    "fonts-croscore",
    "fonts-dejavu-core",
    "fonts-droid-fallback",
    "init-system-helpers",
    "lsb-base",
    "openarena-081-players",
    "openarena-081-players-mature",
    "openarena-081-textures",
    "redeclipse-data",
    "sysvinit-utils",
    "ucf",
];

/// Where the programs look for their data, relative to themselves. Path below the root, and what it points to.
pub(super) const LINKS: &[(&str, &str)] = &[
    ("usr/lib/share/minetest", "../../share/games/minetest"),
    ("usr/games/data", "../share/games/teeworlds/data"),
];

/// Files of ours below the root; all of them may be executed.
pub(super) const FILES: &[(&str, &str)] = &[
    // Asked for, never read: stands for the data that are not brought.
    ("usr/lib/games/redeclipse/maps/readme.txt", "No maps.\n"),
    // It finds its data in the working folder only. Debian's script names the folder of an installed one.
    (
        "usr/games/redeclipse-server",
        "#!/bin/sh\ncd \"${0%/*}/../lib/games/redeclipse\" && exec ./redeclipse-server \"$@\"\n",
    ),
];

/// What Debian's script `openarena-server` sets, without the paths of an installed one and without announcements.
#[rustfmt::skip]
const OPENARENA: &[&str] = &[
    "+set", "com_basegame", "baseoa",
    "+set", "fs_basepath", "{root}/usr/lib/openarena-server",
    "+set", "fs_homepath", "{dir}",
    "+set", "com_legacyprotocol", "71",
    "+set", "com_protocol", "71",
    "+set", "cl_motd", "0",
    "+set", "sv_master1", "",
    "+set", "sv_master2", "",
    "+set", "dedicated", "1",
    "+set", "net_ip", "127.0.0.1",
    "+set", "net_port", "{port}",
    "+set", "sv_hostname", "ward",
    "+set", "rconpassword", "rcon-secret",
];
/// After all settings.
const OPENARENA_MAP: &[&str] = &["+map", "oa_dm1"];
/// It catches SIGTERM, SIGINT and SIGSEGV and leaves through `exit`.
const OPENARENA_ENDS: &[(&str, End)] = &[
    ("sigterm", End::Code(1)),
    ("sigint", End::Code(1)),
    ("input", End::Code(0)),
    ("sigsegv", End::Code(2)),
];
/// Node's way to say that a signal ended it, once there is a handler.
pub(super) const MINECRAFT_ENDS: &[(&str, End)] = &[
    ("sigterm", End::Code(143)),
    ("sigint", End::Code(130)),
    ("sigsegv", End::Signal(11)),
    ("input", End::Code(0)),
];

pub(super) const GAMES: &[Game] = &[
    Game {
        name: "minetest",
        package: "minetest-server",
        program: "usr/lib/minetest/minetestserver",
        args: &[
            &["--config", "{dir}/server.conf", "--logfile", "{dir}/debug.txt"],
            &["--world", "{dir}/world", "--gameid", "minetest_game", "--port", "{port}"],
        ],
        env: &[("MINETEST_GAME_PATH", "{root}/usr/share/games/minetest/games")],
        files: &[(
            "server.conf",
            "bind_address = 127.0.0.1\nipv6_server = false\nenable_ipv6 = false\n\
             server_announce = false\nmax_users = 7\n",
        )],
        ports: &[("port", "udp")],
        ready: "listening on",
        // Its answer to a signal writes to the log, under the lock of the log: a signal that comes while this very
        // line is being written stops it for ever (3 of 25 tries).
        question: Some("4f45740300000001"),
        ends: &[("sigterm", End::Code(0)), ("sigint", End::Code(0)), ("sigsegv", End::Signal(11))],
        input: None,
    },
    Game {
        name: "teeworlds",
        package: "teeworlds-server",
        program: "usr/games/teeworlds-server",
        // One argument: a file (`-f`) is looked for in folders of its own choice, and without one it listens
        // everywhere and tells the world.
        args: &[&[
            "bindaddr 127.0.0.1; sv_port {port}; sv_register 0; sv_name ward; sv_max_clients 8; \
             sv_rcon_password rcon-secret; ec_bindaddr 127.0.0.1; ec_port {econ_port}; \
             ec_password econ-secret; ec_output_level 2",
        ]],
        env: &[],
        files: &[],
        ports: &[("port", "udp"), ("econ_port", "tcp")],
        ready: "[server]: version 0.7",
        question: None,
        // It catches no signal.
        ends: &[
            ("sigterm", End::Signal(15)),
            ("sigint", End::Signal(2)),
            ("sigsegv", End::Signal(11)),
        ],
        input: None,
    },
    Game {
        name: "openarena",
        package: "openarena-server",
        program: "usr/lib/ioquake3/ioq3ded",
        args: &[OPENARENA, &["+set", "sv_maxclients", "6"], OPENARENA_MAP],
        env: &[],
        files: &[],
        ports: &[("port", "udp")],
        ready: "AAS initialized.",
        question: None,
        ends: OPENARENA_ENDS,
        input: Some("quit"),
    },
    Game {
        // The same with work to do: eight bots, steady and in one thread.
        name: "openarena-bots",
        package: "openarena-server",
        program: "usr/lib/ioquake3/ioq3ded",
        args: &[
            OPENARENA,
            &[
                "+set",
                "sv_maxclients",
                "16",
                "+set",
                "bot_enable",
                "1",
                "+set",
                "bot_minplayers",
                "8",
            ],
            OPENARENA_MAP,
        ],
        env: &[],
        files: &[],
        ports: &[("port", "udp")],
        ready: "AAS initialized.",
        question: None,
        ends: OPENARENA_ENDS,
        input: Some("quit"),
    },
    Game {
        name: "bzflag",
        package: "bzflag-server",
        program: "usr/games/bzfs",
        args: &[&["-i", "127.0.0.1", "-p", "{port}", "-mp", "5", "-ts", "-d", "-d"]],
        env: &[],
        files: &[],
        ports: &[("port", "udp+tcp")],
        // It says `listening on` before it does, and before it answers signals.
        ready: "LIBCURL version",
        question: None,
        ends: &[("sigterm", End::Code(0)), ("sigint", End::Code(0)), ("sigsegv", End::Signal(11))],
        input: None,
    },
    Game {
        name: "armagetron",
        package: "armagetronad-dedicated",
        program: "usr/games/armagetronad-dedicated.real",
        args: &[
            &["--datadir", "{root}/usr/share/games/armagetronad"],
            &["--configdir", "{root}/etc/armagetronad", "--userdatadir", "{dir}"],
        ],
        env: &[],
        files: &[(
            "config/autoexec.cfg",
            "SERVER_IP 127.0.0.1\nSERVER_PORT {port}\nTALK_TO_MASTER 0\nSERVER_NAME ward\n",
        )],
        ports: &[("port", "udp")],
        ready: "Nobody there. Taking a nap...",
        question: None,
        ends: &[
            ("sigterm", End::Signal(15)),
            ("sigint", End::Signal(2)),
            ("input", End::Code(0)),
            ("sigsegv", End::Signal(11)),
        ],
        input: Some("quit"),
    },
    Game {
        name: "redeclipse",
        package: "redeclipse-server",
        program: "usr/games/redeclipse-server",
        args: &[&["-h{dir}", "-si127.0.0.1", "-sp{port}", "-sm", "-su0"]],
        env: &[],
        files: &[],
        // It takes the next higher one as well, for questions.
        ports: &[("port", "udp")],
        ready: "dedicated server started",
        question: None,
        // It catches SIGSEGV, and SIGTERM makes it wait until it is empty.
        ends: &[("sigterm", End::Code(0)), ("sigint", End::Code(1)), ("sigsegv", End::Code(1))],
        input: None,
    },
];
