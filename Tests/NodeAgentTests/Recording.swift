import Foundation
import KubeVirt

extension ClusterObjects {
    mutating func apply(_ event: Recording.Event) {
        func put<Value>(_ value: Value, _ list: inout [Value], _ uid: (Value) -> String) {
            let index = list.firstIndex { uid($0) == uid(value) }
            if event.isDeletion {
                if let index { list.remove(at: index) }
            } else if let index {
                list[index] = value
            } else {
                list.append(value)
            }
        }
        switch event.object {
        case .pod(let pod): put(pod, &pods, \.metadata.uid)
        case .virtualMachine(let machine): put(machine, &virtualMachines, \.metadata.uid)
        case .instance(let instance): put(instance, &instances, \.metadata.uid)
        case .migration(let migration): put(migration, &migrations, \.metadata.uid)
        case .other: break
        }
    }
}

/// A story of Tests/Fixtures.
enum Recording {
    struct Event: Sendable {
        var isDeletion: Bool
        var object: ClusterObject
    }

    static func events(of story: String) throws -> [Event] {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: tests.appending(path: "Fixtures/kubevirt/\(story).jsonl"), encoding: .utf8)
        return try text.split(separator: "\n").map { line in
            let event = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            return Event(
                isDeletion: event?["type"] as? String == "DELETED",
                object: try ClusterObject(
                    manifest: JSONSerialization.data(withJSONObject: event?["object"] as? [String: Any] ?? [:])))
        }
    }
}
