"""The state table again, in its plainest form: what the ledger must say after each call, by other hands.

Only what the table decides is modelled; the history that is played avoids what it leaves open.
"""

from dataclasses import dataclass, field


class Refusal(Exception):
    def __init__(self, *reasons):
        super().__init__(", ".join(reasons))
        self.reasons = set(reasons)


@dataclass
class Binding:
    uid: str
    address: str | None = None  # None until the server has chosen
    mac: str | None = None
    active: dict | None = None
    target: dict | None = None
    migration: str = ""
    ended: tuple = ()  # (uid, "COMMIT" or "ABORT") of the last migration to end
    newest: str = ""  # the creation of the newest pod that was ever active, RFC 3339: compares as text

    @property
    def state(self):
        return "MIGRATING" if self.target else "BOUND" if self.active else "RESERVED"

    def end(self, how):
        self.ended = (self.migration, how)
        if how == "COMMIT":
            self.active = self.target
            self.seen(self.active)
        self.target, self.migration = None, ""

    def seen(self, pod):
        self.newest = max(self.newest, pod["created_at"])


@dataclass
class Model:
    bindings: dict = field(default_factory=dict)  # by the owner's name
    quarantined: dict = field(default_factory=dict)  # address -> the name that had it

    def holder(self, address):
        return next((name for name, binding in self.bindings.items() if binding.address == address), None)

    def _check_wish(self, name, address):
        if address and self.holder(address) not in (None, name):
            raise Refusal("ADDRESS_TAKEN")
        if address and self.quarantined.get(address, name) != name:
            raise Refusal("ADDRESS_QUARANTINED")

    def allocate(self, name, uid, pod, address=None):
        binding = self.bindings.get(name)
        is_anew = binding is not None and binding.uid != uid
        if binding is None:
            self._check_wish(name, address)
            self.bindings[name] = binding = Binding(uid, address)
        elif binding.uid == uid and pod and pod == binding.active:
            return  # again
        else:
            if pod and pod["created_at"] < binding.newest:
                raise Refusal("ATTACHMENT_SUPERSEDED")
            if address and address != binding.address:
                if binding.active or binding.target:
                    raise Refusal("ADDRESS_CHANGE", "ADDRESS_TAKEN", "ADDRESS_QUARANTINED")
                self._check_wish(name, address)
                self.quarantined[binding.address] = name
                binding.address = address
            binding.uid = uid
        if address:
            self.quarantined.pop(address, None)
        if pod:
            if binding.target and (is_anew or pod["created_at"] >= binding.target["created_at"]):
                binding.end("ABORT")
            binding.active = pod
            binding.seen(pod)

    def detach(self, name, pod):
        binding = self.bindings.get(name)
        if binding is None:
            return
        if pod == binding.target:
            binding.end("ABORT")
        elif pod == binding.active and binding.target:
            binding.end("COMMIT")
        elif pod == binding.active:
            binding.active = None

    def free(self, name, uid):
        binding = self.bindings.get(name)
        if binding and binding.uid == uid:
            self.quarantined[binding.address] = name
            del self.bindings[name]

    def transfer(self, name, phase, migration, target=None):
        binding = self.bindings.get(name)
        if binding is None:
            raise Refusal("BINDING_NOT_FOUND")
        if phase == "PREPARE":
            if binding.migration == migration:
                return
            if binding.target:
                binding.end("ABORT")
            binding.migration, binding.target = migration, target
        elif binding.migration == migration:
            binding.end(phase)
        elif not binding.ended or binding.ended[0] != migration:
            raise Refusal("MIGRATION_UNKNOWN")
        elif binding.ended[1] != phase:
            raise Refusal("MIGRATION_ENDED")
