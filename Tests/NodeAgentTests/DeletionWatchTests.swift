import KubeVirt
import NodeAgent
import Testing

struct DeletionWatchTests {
    private let machine = MachineReference(namespace: "default", name: "testvm", uid: "vm-1")

    private func reading(_ uids: String..., isComplete: Bool = true) -> Reading {
        var objects = ClusterObjects()
        // Another VM, so that nothing looks empty.
        for uid in uids + ["other"] {
            objects.virtualMachines.append(
                VirtualMachine(
                    metadata: ObjectMeta(namespace: "default", name: uid == "other" ? "other" : "testvm", uid: uid)))
        }
        return Reading(objects: objects, isComplete: isComplete)
    }

    private let empty = Reading(objects: ClusterObjects(), isComplete: true)

    @Test func `a VM is deleted when two readings in a row lack it, and a third confirms it`() {
        var watch = DeletionWatch()
        #expect(watch.observe(reading("vm-1")) == [])
        #expect(watch.observe(reading()) == [])
        #expect(watch.observe(reading()) == [machine])
        #expect(watch.confirm(machine, in: reading()) == true)
        // Until it is forgotten, so that a failed release is repeated.
        #expect(watch.observe(reading()) == [machine])
        watch.forget(machine)
        #expect(watch.observe(reading()) == [])
    }

    @Test func `a VM that shows again in the third reading is counted from the start`() {
        var watch = DeletionWatch()
        _ = watch.observe(reading("vm-1"))
        _ = watch.observe(reading())
        _ = watch.observe(reading())
        #expect(watch.confirm(machine, in: reading("vm-1")) == false)
        #expect(watch.observe(reading()) == [])
        #expect(watch.observe(reading()) == [machine])
    }

    @Test func `a VM that shows again is counted from the start`() {
        var watch = DeletionWatch()
        for _ in 0..<3 {
            #expect(watch.observe(reading("vm-1")) == [])
            #expect(watch.observe(reading()) == [])
        }
    }

    @Test func `a new VM of the same name does not stand for the deleted one`() {
        var watch = DeletionWatch()
        _ = watch.observe(reading("vm-1"))
        _ = watch.observe(reading("vm-2"))
        #expect(watch.observe(reading("vm-2")) == [machine])
    }

    @Test func `an incomplete reading shows nothing gone, and interrupts the count`() {
        var watch = DeletionWatch()
        _ = watch.observe(reading("vm-1"))
        _ = watch.observe(reading())
        #expect(watch.observe(reading(isComplete: false)) == [])
        #expect(watch.observe(reading()) == [])
        #expect(watch.observe(reading()) == [machine])
        #expect(watch.confirm(machine, in: reading(isComplete: false)) == false)
    }

    @Test func `a source that is empty all of a sudden shows nothing gone, however often`() {
        var watch = DeletionWatch()
        _ = watch.observe(reading("vm-1"))
        for _ in 0..<10 { #expect(watch.observe(empty) == []) }
        #expect(watch.confirm(machine, in: empty) == false)
    }

    @Test func `a VM that only an agent before this one has seen is missed as any other`() {
        var watch = DeletionWatch(seen: [machine])
        #expect(watch.observe(empty) == [])
        #expect(watch.suspects(empty))
        #expect(watch.observe(reading()) == [])
        #expect(watch.observe(reading()) == [machine])
        #expect(watch.isUnseen(machine))
        watch = DeletionWatch(seen: [machine])
        #expect(watch.observe(reading("vm-1")) == [])
        #expect(!watch.isUnseen(machine))
        watch = DeletionWatch(seen: [machine])
        watch.forget(machine)
        #expect(watch.seen == [] && !watch.isUnseen(machine))
    }

    @Test func `a VM that was never seen is not missed`() {
        var watch = DeletionWatch()
        for _ in 0..<5 { #expect(watch.observe(empty) == []) }
        for _ in 0..<5 { #expect(watch.observe(reading()) == []) }
    }

    @Test func `an instance counts only where it stands alone`() {
        func instance(_ owners: [OwnerReference]) -> Reading {
            var objects = reading().objects
            objects.instances = [
                VirtualMachineInstance(
                    metadata: ObjectMeta(namespace: "default", name: "alone", uid: "vmi-1", owners: owners))
            ]
            return Reading(objects: objects, isComplete: true)
        }
        var watch = DeletionWatch()
        _ = watch.observe(instance([]))
        _ = watch.observe(reading())
        #expect(watch.observe(reading()) == [MachineReference(namespace: "default", name: "alone", uid: "vmi-1")])
        watch = DeletionWatch()
        _ = watch.observe(
            instance([OwnerReference(apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: "alone", uid: "vm")]))
        _ = watch.observe(reading())
        #expect(watch.observe(reading()) == [])
    }
}
