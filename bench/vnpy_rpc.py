"""VeighNa's side of the benchmark: its RpcServer publishing ticks and answering, its RpcClient receiving and asking.

It speaks as the other processes of the benchmark do: JSON lines on standard input and output, `ready` first.

    vnpy_rpc.py server REQ_ADDRESS PUB_ADDRESS
    vnpy_rpc.py client REQ_ADDRESS PUB_ADDRESS
"""

import json
import os
import sys
import threading
import time
from datetime import datetime

from vnpy.event import Event
from vnpy.rpc import RpcClient, RpcServer
from vnpy.trader.constant import Exchange
from vnpy.trader.event import EVENT_TICK
from vnpy.trader.object import TickData

# Received by a client before it is ready: its subscription has reached the server then.
PROBE = "probe"
# So long nothing comes, and what is missing is lost. As in subscriber.rs.
SILENCE = 10


def tick(number: int) -> TickData:
    """The same tick as in recorded.rs, of sixteen instruments in turn."""
    made = TickData(
        gateway_name="bench",
        symbol=f"cu19{number + 1:02}",
        exchange=Exchange.SHFE,
        datetime=datetime.fromisoformat("2019-09-16T14:01:33.500+08:00"),
        volume=7360.0,
        turnover=1756292000.0,
        open_interest=8240.0,
        last_price=47800.0,
        limit_up=51430.0,
        limit_down=43810.0,
        open_price=47720.0,
        high_price=47860.0,
        low_price=47660.0,
        pre_close=47690.0,
        localtime=datetime.fromisoformat("2019-09-16T14:01:33.512345+08:00"),
    )
    bids = [(47780.0, 10.0), (47770.0, 10.0), (47760.0, 85.0), (47750.0, 20.0), (47740.0, 20.0)]
    asks = [(47820.0, 10.0), (47830.0, 10.0), (47850.0, 5.0), (47860.0, 5.0), (47950.0, 20.0)]
    for side, levels in (("bid", bids), ("ask", asks)):
        for level, (price, volume) in enumerate(levels, 1):
            setattr(made, f"{side}_price_{level}", price)
            setattr(made, f"{side}_volume_{level}", volume)
    return made


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def told():
    """What comes on standard input, until it ends."""
    for line in sys.stdin:
        yield json.loads(line)


class Server:
    """Publishes what it is told to, no more ahead of the slowest client than the window."""

    def __init__(self, req_address: str, pub_address: str) -> None:
        self.ticks = [tick(number) for number in range(16)]
        self.taken = 0
        self.moved = threading.Condition()
        self.server = RpcServer()
        self.server.register(self.get_tick)
        self.server.register(self.probe)
        self.server.start(req_address, pub_address)

    def get_tick(self, vt_symbol: str) -> TickData:
        return next(known for known in self.ticks if known.vt_symbol == vt_symbol)

    def probe(self) -> None:
        self.server.publish(PROBE, None)

    def run(self) -> None:
        print("ready", flush=True)
        for what in told():
            if "Send" in what:
                self.taken = 0
                threading.Thread(target=self.send, args=[what["Send"]], daemon=True).start()
            else:
                with self.moved:
                    self.taken = what["Taken"]
                    self.moved.notify()

    def send(self, feed: dict) -> None:
        rate, window, start = feed["per_second"], feed["window"], time.monotonic()
        for number in range(feed["count"]):
            next_tick = self.ticks[number % 16]
            if rate:
                early = start + number / rate - time.monotonic()
                if early > 0:
                    time.sleep(early)
                next_tick.turnover = float(time.monotonic_ns())
            elif number >= self.taken + window:
                with self.moved:
                    self.moved.wait_for(lambda: number < self.taken + window)
            # One publish for each tick; VeighNa's own service makes two, EVENT_TICK and EVENT_TICK with the symbol.
            self.server.publish("", Event(EVENT_TICK, next_tick))


class Client(RpcClient):
    """Takes what it is told to take."""

    def __init__(self) -> None:
        super().__init__()
        self.probed = threading.Event()
        # Ticks that come before the client knows what to take wait for it.
        self.armed = threading.Event()
        self.is_armed = False
        self.done = threading.Event()
        self.take: dict = {"count": 0, "tell_every": 1, "is_stamped": False}
        self.arrived = 0
        self.first_ns = 0
        self.last_ns = 0
        self.latencies: list = []

    def callback(self, topic: str, data: object) -> None:
        if topic == PROBE:
            self.probed.set()
            return
        now = time.monotonic_ns()
        if not self.is_armed:
            self.armed.wait()
        self.arrived += 1
        self.last_ns = now
        if self.take["is_stamped"]:
            self.latencies.append(now - int(data.data.turnover))
        if self.arrived == 1:
            self.first_ns = now
        if self.arrived % self.take["tell_every"] == 0:
            say({"Taken": self.arrived})
        if self.arrived == self.take["count"]:
            self.is_armed = False
            self.armed.clear()
            self.done.set()

    def run_as_told(self) -> None:
        print("ready", flush=True)
        for what in told():
            if "calls" in what:
                say(self.call(what["calls"]))
                continue
            self.arrived, self.latencies = 0, []
            self.done.clear()
            self.take = what
            self.is_armed = True
            self.armed.set()
            before = -1
            while not self.done.wait(SILENCE) and self.arrived != before:
                before = self.arrived
            self.is_armed = False
            self.armed.clear()
            lost = what["count"] - self.arrived
            self.latencies.sort()
            say({"Done": {
                "arrived": self.arrived, "lost": lost, "first_ns": self.first_ns, "last_ns": self.last_ns,
                "latency": quantiles(self.latencies),
            }})

    def call(self, calls: int) -> dict:
        took = []
        for _ in range(calls):
            start = time.monotonic_ns()
            assert self.get_tick("cu1901.SHFE").last_price == 47800.0
            took.append(time.monotonic_ns() - start)
        total = sum(took)
        took.sort()
        return {"total_ns": total, "latency": quantiles(took)}


def quantiles(ordered: list) -> "dict | None":
    if not ordered:
        return None
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    return {name: ordered[round(last * share)] for name, share in shares.items()}


def main() -> None:
    role, req_address, pub_address = sys.argv[1:]
    if role == "server":
        Server(req_address, pub_address).run()
    else:
        client = Client()
        client.subscribe_topic("")
        client.start(req_address, pub_address)
        while not client.probed.wait(0.05):
            client.probe()
        client.run_as_told()
    sys.stdout.flush()
    # VeighNa's threads wait for messages for up to 30 s before they look whether they are to end.
    os._exit(0)


main()
