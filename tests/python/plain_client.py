"""A plain NATS client: it knows nothing but the table of subjects in README.md."""

import asyncio
import json
import sys
import time
import uuid

import nats


async def call(nc, gateway, method, params, deadline_s=None):
    headers = {}
    if deadline_s is not None:
        headers["Gatemesh-Deadline"] = str(int((time.time() + deadline_s) * 1000))
    reply = await nc.request(
        f"rpc.{gateway}.{method}", json.dumps(params).encode(), timeout=20, headers=headers or None
    )
    code = (reply.headers or {}).get("Nats-Service-Error-Code")
    return code, json.loads(reply.data)


async def main(url):
    nc = await nats.connect(url)

    ticks = await nc.subscribe("evt.tick.*.SHFE")
    message = await ticks.next_msg(timeout=20)
    tick = json.loads(message.data)
    assert message.subject == f"evt.tick.{tick['data']['symbol']}.SHFE", message.subject
    assert tick["gateway"] == "sim1" and tick["epoch"] >= 1 and tick["seq"] >= 1, tick
    assert isinstance(tick["data"]["last_price"], (int, float)), tick
    assert all(len(level) == 2 for level in tick["data"]["bids"]), tick

    code, status = await call(nc, "sim1", "get_status", {})
    assert code is None and status["state"] == "READY", status

    orders = await nc.subscribe("evt.order.rb2410.SHFE.sim1.default")
    trades = await nc.subscribe("evt.trade.>")
    orderid = str(uuid.uuid4())
    order = {
        "orderid": orderid,
        "symbol": "rb2410",
        "exchange": "SHFE",
        "direction": "LONG",
        "type": "MARKET",
        "volume": 1,
        "offset": "OPEN",
        "reference": "python",
    }
    code, accepted = await call(nc, "sim1", "send_order", order, deadline_s=20)
    assert code is None and accepted["orderid"] == orderid, accepted
    trade = json.loads((await trades.next_msg(timeout=20)).data)["data"]
    assert trade["orderid"] == orderid and trade["reference"] == "python", trade
    statuses = []
    while not statuses or statuses[-1] != "ALLTRADED":
        event = await orders.next_msg(timeout=20)
        assert int(event.headers["Nats-Sequence"]) > 0, event.headers
        statuses.append(json.loads(event.data)["data"]["status"])
    assert statuses[0] == "SUBMITTING", statuses

    code, again = await call(nc, "sim1", "send_order", order, deadline_s=20)
    assert code is None and again["status"] == "ALLTRADED", again

    code, error = await call(nc, "sim1", "send_order", dict(order, orderid=str(uuid.uuid4())))
    assert code == "400" and error["code"] == "DEADLINE_REQUIRED", error
    code, error = await call(nc, "sim1", "get_tick", {"symbol": "RB2410", "exchange": "SHFE"})
    assert code == "404" and "rb2410.SHFE" in error["message"], error
    code, error = await call(nc, "sim1", "no_such_method", {})
    assert code == "404" and error["code"] == "UNKNOWN_METHOD", error
    try:
        await nc.request("rpc.nobody.get_status", b"{}", timeout=20)
        raise AssertionError("a gateway that does not exist answered")
    except nats.errors.NoRespondersError:
        pass

    await nc.drain()
    print("everything as documented")


asyncio.run(main(sys.argv[1]))
