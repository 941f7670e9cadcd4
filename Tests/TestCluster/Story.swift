package import Foundation

/// What a real API server sent, one event after the other over all kinds (Tests/Fixtures).
package struct Story: Sendable {
    package struct Event: Sendable {
        package enum Change: String, Sendable { case added = "ADDED", modified = "MODIFIED", deleted = "DELETED" }

        package var change: Change
        /// The object, as it was sent but for managedFields.
        package var object: Data
        package var kind: String
        package var namespace: String
        package var name: String
        package var uid: String
        package var resourceVersion: Int

        /// The object's members.
        package var members: [String: Any] {
            (try? JSONSerialization.jsonObject(with: object) as? [String: Any]) ?? [:]
        }
    }

    package static let names = ["lifecycle", "migrate", "migrate-failures", "secondary"]

    package let name: String
    package let events: [Event]

    package init(_ name: String, filePath: String = #filePath) throws {
        self.name = name
        let tests = URL(filePath: filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = try Data(contentsOf: tests.appending(path: "Fixtures/kubevirt/\(name).jsonl"))
        events = try file.split(separator: UInt8(ascii: "\n")).map { line in
            // The object's bytes as they are: a line is {"type":"…","object":…}.
            guard let start = line.firstRange(of: Data(#""object":"#.utf8))?.upperBound,
                let event = try JSONSerialization.jsonObject(with: line) as? [String: Any],
                let object = event["object"] as? [String: Any],
                let metadata = object["metadata"] as? [String: Any],
                let change = (event["type"] as? String).flatMap(Event.Change.init),
                let kind = object["kind"] as? String, let objectName = metadata["name"] as? String,
                let version = (metadata["resourceVersion"] as? String).flatMap({ Int($0) })
            else { throw ClusterError.noObject(String(decoding: line, as: UTF8.self)) }
            return Event(
                change: change, object: Data(line[start..<line.index(before: line.endIndex)]), kind: kind,
                namespace: metadata["namespace"] as? String ?? "", name: objectName,
                uid: metadata["uid"] as? String ?? "", resourceVersion: version)
        }
    }
}
