"""The usual monitor in Python: psutil once a second, a row per process and a transaction per row in SQLite, and
every three seconds a look whether the processes are still there. Argument: process ids, parted by commas."""

import sqlite3
import sys
import time

import psutil

pids = [int(pid) for pid in sys.argv[1].split(",")]
store = sqlite3.connect("metrics.db")
store.execute("CREATE TABLE metrics (at REAL, pid INTEGER, cpu REAL, rss INTEGER)")
processes = [psutil.Process(pid) for pid in pids]
checked = 0.0
while True:
    for process in processes:
        row = (time.time(), process.pid, process.cpu_percent(), process.memory_info().rss)
        store.execute("INSERT INTO metrics VALUES (?, ?, ?, ?)", row)
        store.commit()
    psutil.cpu_percent()
    psutil.virtual_memory()
    if time.monotonic() - checked >= 3:
        checked = time.monotonic()
        for process in psutil.process_iter(["name", "cmdline"]):
            process.info["name"]
    time.sleep(1)
