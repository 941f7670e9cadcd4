"""Tells the story of real guests. Exit status: 0 all held, 1 something did not or the story broke off, 2 wrong usage."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from story import wire as network
from story.kubelet import PLUGINS, SandboxError
from story.screen import red, say, title
from story.stage import REPOSITORY, Stage, StageError

from . import image
from .chapters import GuestStory


def parse():
    parser = argparse.ArgumentParser(
        prog="scripts/vm-demo", description="Two real virtual machines (QEMU, software emulation) on two nodes: DHCP from "
        "the agent, power off and on, live migration. KubeVirt and the kubelet are played.")
    parser.add_argument("--binaries", metavar="DIR", default=REPOSITORY / ".build/debug", type=Path)
    parser.add_argument("--plugin", metavar="FILE", type=Path, help="holdfast-cni (the static build)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.plugin:
        static = REPOSITORY / ".build-static/release/holdfast-cni"
        options.plugin = static if static.exists() else options.binaries / "holdfast-cni"
    for program in (options.plugin, *(options.binaries / p for p in ("holdfast-server", "holdfast-agent", "holdfast"))):
        if not program.exists():
            parser.error(f"{program} is missing: `make vm-demo` builds it")
    return options


def why_not():
    """Why real guests cannot be run here, or None."""
    for program in ("qemu-system-x86_64", image.BUSYBOX, f"{PLUGINS}/bridge"):
        if not shutil.which(program):
            return f"{program} is missing: scripts/setup vm"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be used"
    return network.why_not()


def main():
    options = parse()
    if not options.inside:
        if reason := why_not():
            say(red(f"Real guests cannot be run here: {reason}"))
            return 1
        try:
            # Here, where there is a network to download from.
            image.make()
        except StageError as error:
            say(red(f"The guests' kernel cannot be had: {error}"))
            return 1
        network.enter(sys.argv[1:], module="vm")
    title("Holdfast: real guests get their addresses by DHCP, and keep them")
    say("Each node and each pod is a network namespace, and in each pod a QEMU process runs a Debian kernel with busybox. "
        "In the pod's namespace stand a bridge and a tap, as KubeVirt makes them for the binding managedTap.")
    stage = Stage(options.binaries, options.plugin, network.Wire(), agent_options=("--dhcp", "--announce"))
    story = None
    held = False
    complaints = []
    try:
        story = GuestStory(stage)
        story.tell()
        held = story.verdict()
    except (StageError, SandboxError, OSError) as error:
        title("The story broke off")
        say(red(str(error)))
    except KeyboardInterrupt:
        print()
    finally:
        if story:
            story.stop()
        complaints = stage.stop(keep_logs=not held)
    for complaint in complaints:
        say(red(complaint))
    if not held or complaints:
        say(f"Logs: {stage.logs}")
        return 1
    return 0


sys.exit(main())
