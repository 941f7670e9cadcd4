"""Random histories: after each call the server must say what the model says, and every call twice says the same."""

import copy
import os
import random

import pytest
from client import Client, Refused, addresses, launcher, vm
from model import Model, Refusal

STEPS = int(os.environ.get("HOLDFAST_HISTORY_STEPS", "300"))
SEEDS = [int(seed) for seed in os.environ.get("HOLDFAST_HISTORY_SEEDS", "").split()] or [
    random.SystemRandom().randrange(1 << 32) for _ in range(2)]
NAMES = [f"vm-{number}" for number in range(6)]


class History:
    def __init__(self, seed, server):
        self.random = random.Random(seed)
        self.server = server
        self.client = Client(server.target)
        self.model = Model()
        self.pods = 0
        self.migrations = []
        self.generation = dict.fromkeys(NAMES, 0)
        # By name: the UID and a pod that was made before the last migration's target, and of which nothing was told yet.
        self.untold = {}
        # Pods that a newer one has taken the place of: (name, uid, pod).
        self.old = []
        self.log = []
        # Who had an address in quarantine when the server ended: it does not know whether nodes have copies of it.
        self.unknown = set()

    def uid(self, name):
        return f"{name}-{self.generation[name]}"

    def new_pod(self):
        self.pods += 1
        return launcher(self.pods, self.random.choice(["node-a", "node-b", "node-c"]))

    def step(self):
        name = self.random.choice(NAMES)
        kind = self.random.choices(
            [self.start, self.again, self.late, self.told_late, self.reserve, self.wish, self.stop, self.stop_other,
             self.prepare, self.settle, self.settle_other, self.delete, self.delete_other, self.recreate],
            [6, 3, 3, 3, 2, 3, 5, 2, 5, 6, 2, 1, 1, 1])[0]
        kind(name)
        self.compare(name)

    # One kind of call each.

    def start(self, name):
        self.allocate(name, self.new_pod())

    def again(self, name):
        binding = self.model.bindings.get(name)
        if binding and binding.active:
            self.allocate(name, binding.active)

    def late(self, name):
        """A message of a pod that a newer one has replaced."""
        if not self.old:
            return
        name, uid, pod = self.random.choice(self.old)
        binding = self.model.bindings.get(name)
        # A freed binding's memory is gone; and what the table leaves open is left out.
        if not binding or not binding.active or pod in (binding.active, binding.target):
            return
        if self.random.random() < 0.5:
            self.allocate(name, pod, uid=uid)
        else:
            self.detach(name, pod, uid=uid)

    def told_late(self, name):
        """A pod that started from a copy: its node reaches the server only after the VM has begun to migrate."""
        uid, pod = self.untold.pop(name, (None, None))
        if uid == self.uid(name):
            self.allocate(name, pod)

    def reserve(self, name):
        self.allocate(name, None)

    def wish(self, name):
        self.allocate(name, self.new_pod(), address=f"10.16.0.{self.random.randrange(2, 40)}")

    def stop(self, name):
        binding = self.model.bindings.get(name)
        if binding and (pod := self.random.choice([binding.active, binding.target])):
            self.detach(name, pod)

    def stop_other(self, name):
        self.detach(name, self.new_pod())

    def prepare(self, name):
        binding = self.model.bindings.get(name)
        self.untold[name] = (self.uid(name), self.new_pod())
        migration, target = f"migration-{len(self.migrations)}", self.new_pod()
        if binding and binding.migration and self.random.random() < 0.4:
            migration, target = binding.migration, binding.target
        self.migrations.append(migration)
        self.transfer(name, "PREPARE", migration, target)

    def settle(self, name):
        binding = self.model.bindings.get(name)
        if binding and (migration := binding.migration or (binding.ended and binding.ended[0])):
            self.transfer(name, self.random.choice(["COMMIT", "ABORT"]), migration)

    def settle_other(self, name):
        self.transfer(name, self.random.choice(["COMMIT", "ABORT"]), "never-heard-of")

    def delete(self, name):
        self.call(
            lambda: self.client.free(vm(name, uid=self.uid(name))), lambda: self.model.free(name, self.uid(name)),
            f"free {self.uid(name)}")

    def delete_other(self, name):
        self.call(
            lambda: self.client.free(vm(name, uid="another")), lambda: self.model.free(name, "another"),
            f"free another {name}")

    def recreate(self, name):
        self.generation[name] += 1
        self.allocate(name, self.new_pod())

    # A call to both, and twice to the server.

    def allocate(self, name, pod, address=None, uid=None):
        uid = uid or self.uid(name)
        before = self.model.bindings.get(name)
        replaced = [p for p in (before.active, before.target) if p] if before else []
        wish = {"addresses": [address]} if address else {}
        answer = self.call(
            lambda: self.client.allocate(vm(name, uid=uid), pod, **wish),
            lambda: self.model.allocate(name, uid, pod, address), f"allocate {uid} {pod and pod['pod']} {address}",
            may_wait=name in self.unknown)
        if answer is None:
            return
        binding = self.model.bindings[name]
        given = addresses(answer["binding"])[0]
        if binding.address is None:
            assert self.model.holder(given) is None and self.model.quarantined.get(given, name) == name, given
            self.model.quarantined.pop(given, None)
            binding.address = given
        if binding.mac is None:
            assert answer["created"] and answer["binding"]["mac"] not in [
                other.mac for other in self.model.bindings.values()]
            binding.mac = answer["binding"]["mac"]
        else:
            assert not answer["created"]
        self.old += [(name, uid, old) for old in replaced if old not in (binding.active, binding.target)]

    def detach(self, name, pod, uid=None):
        owner = vm(name, uid=uid or self.uid(name))
        self.call(lambda: self.client.detach(owner, pod), lambda: self.model.detach(name, pod),
                  f"detach {name} {pod['pod']}")

    def transfer(self, name, phase, migration, target=None):
        more = {"target": target} if target else {}
        before = self.model.bindings.get(name)
        source = before.active if before else None
        self.call(
            lambda: self.client.transfer(vm(name, uid=self.uid(name)), phase, migration, **more),
            lambda: self.model.transfer(name, phase, migration, target), f"{phase} {name} {migration}")
        if before and source and before.active != source:
            self.old.append((name, before.uid, source))

    def call(self, real, modelled, what, may_wait=False):
        """Gives back the answer, None when both refuse, or the server waits for copies that nodes may have."""
        self.log.append(what)
        before = copy.deepcopy(self.model)
        try:
            modelled()
            expected = None
        except Refusal as refusal:
            expected = refusal
        answers = []
        for _ in range(2):
            try:
                answers.append(real())
            except Refused as error:
                if may_wait and expected is None and error.reason == "COPIES_OUTSTANDING":
                    self.model = before
                    return None
                assert expected and error.reason in expected.reasons, f"{what}: {error}, expected {expected}"
                answers.append(error.reason)
        assert expected is None or all(isinstance(answer, str) for answer in answers), f"{what}: expected {expected}"
        first, second = ({k: v for k, v in a.items() if k != "created"} if isinstance(a, dict) else a for a in answers)
        assert first == second, f"{what}: twice is not once"
        return answers[0] if expected is None else None

    # What must hold after each call.

    def compare(self, name):
        binding = self.model.bindings.get(name)
        try:
            real = self.client.binding(vm(name, uid=""))
        except Refused as error:
            assert error.code == "NOT_FOUND" and binding is None, f"{name}: {error}"
            return
        assert binding is not None, f"{name} has {real}"
        self.compare_binding(binding, real)

    @staticmethod
    def compare_binding(binding, real):
        assert real["state"].removeprefix("BINDING_STATE_") == binding.state
        assert (real.get("active"), real.get("target")) == (binding.active, binding.target)
        assert real["migration_uid"] == binding.migration and real["owner"]["uid"] == binding.uid
        assert addresses(real) == [binding.address] and real["mac"] == binding.mac

    def compare_all(self):
        bindings = {real["owner"]["name"]: real for real in self.client.bindings(page_size=1000)}
        assert bindings.keys() == self.model.bindings.keys()
        for name, binding in self.model.bindings.items():
            self.compare_binding(binding, bindings[name])
        [usage] = self.client.call("Pools.GetPool", {"name": "vm-net"})["usage"]
        carried = sum(binding.state != "RESERVED" for binding in self.model.bindings.values())
        assert usage["bound"] == carried and usage["reserved"] == len(bindings) - carried
        assert usage["quarantined"] == len(self.model.quarantined)

    def restart(self):
        self.client.close()
        self.unknown |= set(self.model.quarantined.values())
        self.server.restart()
        self.client = Client(self.server.target)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history_ends_as_the_model_says(server, seed):
    print(f"HOLDFAST_HISTORY_SEEDS={seed} HOLDFAST_HISTORY_STEPS={STEPS}")
    history = History(seed, server)
    history.client.call("Pools.CreatePool", {"pool": {
        "name": "vm-net", "is_default": True, "reuse_delay": "3600s",
        "prefixes": [{"prefix": "10.16.0.0/23", "gateway": "10.16.0.1"}]}})
    try:
        for step in range(STEPS):
            history.step()
            if step % 50 == 49:
                history.compare_all()
            if step % 100 == 99:
                history.restart()
                history.compare_all()
    except AssertionError:
        print("the last calls:", *history.log[-25:], sep="\n  ")
        raise
    finally:
        history.client.close()
