#!/usr/bin/env python3
"""An executor in Python: dials in, and carries out each mission with a shell command that is told the objective.

    TOWPATH_SERVER=https://… TOWPATH_ENROLMENT_KEY=twk_… executor.py CAPABILITY 'COMMAND' [STATE_FILE]
"""
import datetime, json, os, pathlib, subprocess, sys, threading, time, urllib.request, uuid
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

SERVER = os.environ["TOWPATH_SERVER"].rstrip("/")
CAPABILITY, COMMAND = sys.argv[1:3]
STATE = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else "executor.json")
missions = {}  # the commands that run, by the ids of their missions


def post(path, bearer, body):
    request = urllib.request.Request(SERVER + path, json.dumps(body).encode(),
                                     {"authorization": f"Bearer {bearer}", "content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def register():
    """Registers: the first time with the enrolment key, from then on with the executor's own token."""
    known = json.loads(STATE.read_text()) if STATE.exists() else {"executor_id": str(uuid.uuid4())}
    said = {"executor_id": known["executor_id"], "name": "python", "version": "1.0.0", "spec_version": "1.0.0",
            "capabilities": [CAPABILITY], "transport_endpoints": {"rest": "about:blank", "ws": "about:blank"}}
    proof = known.get("token") or os.environ["TOWPATH_ENROLMENT_KEY"]
    known["token"] = post("/api/v1/executors/register", proof, said)["token"]
    os.umask(0o077)  # the token is for nobody else
    STATE.write_text(json.dumps(known))
    return known["executor_id"], known["token"]


def tell(socket, me, event, mission=None, **data):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {"event": event, "id": str(uuid.uuid4()), "executor_id": me, "ts": now, "data": data}
    socket.send(json.dumps(message | ({"mission_id": mission} if mission else {})))


def carry_out(socket, me, mission, objective):
    tell(socket, me, "mission.assigned", mission, state="assigned")
    tell(socket, me, "mission.started", mission, state="running")
    tell(socket, me, "mission.progress", mission, phase="running")
    command = missions[mission] = subprocess.Popen(COMMAND, shell=True, text=True, stdout=subprocess.PIPE,
                                                   env=os.environ | {"OBJECTIVE": objective})
    summary = command.communicate()[0]
    if command.returncode < 0:
        tell(socket, me, "mission.aborted", mission, state="aborted", aborted_by="operator")
    elif command.returncode:
        tell(socket, me, "mission.failed", mission, state="failed", reason="exit_nonzero", exit_code=command.returncode)
    else:
        tell(socket, me, "mission.completed", mission, state="done", summary=summary, exit_code=0)
    del missions[mission]


def ping(socket, me):
    while True:  # after 90 s without a word an executor is taken for silent
        time.sleep(45)
        socket.send(json.dumps({"event": "executor.ping", "executor_id": me}))


def serve(me, token):
    url = SERVER.replace("http", "ws", 1) + f"/ws/executors/{me}?extensions=towpath.1"
    with connect(url, additional_headers={"authorization": f"Bearer {token}"}) as socket:
        tell(socket, me, "executor.resync", owned_mission_ids=list(missions))
        threading.Thread(target=ping, args=(socket, me), daemon=True).start()
        for message in map(json.loads, socket):
            event, mission = message.get("event", ""), message.get("mission_id")
            if event == "mission.dispatch" and mission not in missions:
                if "dispatch" not in message["data"]:  # too large for a socket: a poll has it whole
                    waiting = post(f"/api/v1/executors/{me}/claim", token, {"ack": []})["messages"]
                    message = next(it for it in waiting if it["id"] == message["id"])
                missions[mission] = None
                objective = message["data"]["dispatch"]["objective"]
                threading.Thread(target=carry_out, args=(socket, me, mission, objective), daemon=True).start()
            elif event == "mission.aborted" and missions.get(mission):
                missions[mission].terminate()
            elif event == "executor.error":
                print(message["code"], message["message"], file=sys.stderr, flush=True)
            if event.startswith("mission."):  # what is not acknowledged comes again
                socket.send(json.dumps({"event": "executor.ack", "executor_id": me, "ids": [message["id"]]}))


while True:
    try:
        serve(*register())
    except (OSError, WebSocketException) as error:
        print(f"{error}; it dials in again", file=sys.stderr, flush=True)
    time.sleep(2)
