"""Tells the story. Exit status: 0 the addresses were held, 1 they were not or the story broke off, 2 wrong usage."""

import argparse
import os
import sys
from pathlib import Path

from . import wire as network
from .chapters import Story
from .kubelet import PLUGINS, SandboxError
from .screen import red, say, title
from .stage import REPOSITORY, Stage, StageError


def parse():
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Two nodes on one wire, and virtual machines that restart, migrate and stop. "
        "Everything is real but KubeVirt and the kubelet, whose parts the script plays.")
    parser.add_argument("--no-netns", action="store_true", help="leave the network interfaces out")
    # As `make` builds them; a test plays the story with its own.
    parser.add_argument("--binaries", metavar="DIR", default=REPOSITORY / ".build/debug", type=Path)
    parser.add_argument("--plugin", metavar="FILE", type=Path, help="holdfast-cni (the static build)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.plugin:
        static = REPOSITORY / ".build-static/release/holdfast-cni"
        options.plugin = static if static.exists() else options.binaries / "holdfast-cni"
    for program in (options.plugin, *(options.binaries / p for p in ("holdfast-server", "holdfast-agent", "holdfast"))):
        if not program.exists():
            parser.error(f"{program} is missing: `make demo` builds it")
    return options


def reason_without_interfaces(options):
    if options.no_netns:
        return "as --no-netns says"
    if not os.access(f"{PLUGINS}/bridge", os.X_OK):
        return f"because {PLUGINS}/bridge is missing (Debian: containernetworking-plugins)"
    problem = network.why_not()
    return f"because network namespaces cannot be made here ({problem})" if problem else None


def main():
    options = parse()
    reason = None if options.inside else reason_without_interfaces(options)
    if not options.inside and reason is None:
        network.enter(sys.argv[1:])
    title("Holdfast: a virtual machine keeps its IP and MAC address for its whole life")
    say("KubeVirt runs each VM in a pod, and a VM gets a new pod at each restart, start and live migration. Here one "
        "holdfast-server, and a holdfast-agent on each of two nodes, keep the VM's address while its pods come and go.")
    say()
    if reason:
        say(f"Played without network interfaces, {reason}: the same server, agents and plugin, called as an address "
            "plugin, but no cables and no ping. The tables show the IP that the plugin answered with, and the "
            "ledger's MAC and state.")
    else:
        say("Each node and each pod is a network namespace, cabled by the real `bridge` plugin. The tables show IP and "
            "MAC as the pod's own eth0 has them, whether a router on the same wire gets an answer to its ping, and "
            "what the ledger says.")
    stage = Stage(options.binaries, options.plugin, None if reason else network.Wire())
    story = Story(stage)
    held = False
    complaints = []
    try:
        story.tell()
        held = story.verdict()
    except (StageError, SandboxError, OSError) as error:
        title("The story broke off")
        say(red(str(error)))
    except KeyboardInterrupt:
        print()
    finally:
        complaints = stage.stop(keep_logs=not held)
    for complaint in complaints:
        say(red(complaint))
    if not held or complaints:
        say(f"Logs: {stage.logs}")
        return 1
    return 0


sys.exit(main())
