import Foundation
import KubeVirt

/// A story of Tests/Fixtures.
struct Recording {
    struct Event {
        var resource: String
        var object: ClusterObject
    }

    let events: [Event]

    init(_ story: String, filePath: String = #filePath) throws {
        let tests = URL(filePath: filePath).deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: tests.appending(path: "Fixtures/kubevirt/\(story).jsonl"), encoding: .utf8)
        events = try text.split(separator: "\n").map { line in
            let event = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            let object = event?["object"] as? [String: Any] ?? [:]
            return Event(
                resource: object["kind"] as? String ?? "",
                object: try ClusterObject(manifest: JSONSerialization.data(withJSONObject: object)))
        }
    }
}
