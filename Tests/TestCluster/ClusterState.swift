import Foundation
import KubernetesAPI
import NIOCore

/// Everything that the cluster knows.
struct ClusterState {
    struct Change {
        var resourceVersion: Int
        var type: Story.Event.Change
        /// As it is now, or was last.
        var object: StoredObject
        var previous: StoredObject?
    }

    struct Refusal {
        var verb: String?
        var resource: KubernetesResource?
        var status: Int
        var retryAfter: Int?
        var cause: String?
        var passing: Int
        var times: Int
    }

    /// A watch cache that is behind.
    struct StaleCache {
        var objects: [StoredObject.Key: StoredObject]
        var resourceVersion: Int
    }

    /// A list under way: what its pages are cut from.
    struct Pages {
        var rest: [StoredObject]
        var resourceVersion: Int
    }

    var resourceVersion = 1
    var compacted = 0
    private(set) var objects: [StoredObject.Key: StoredObject] = [:]
    /// Which objects of a resource have a label or field of a value, so that 500 agents' lists take no time.
    private var index: [Term: Set<StoredObject.Key>] = [:]
    var history: [KubernetesResource: [Change]] = [:]
    var watches: [Int: WatchStream] = [:]
    var nextID = 0
    var held: Set<KubernetesResource> = []
    var heldChanges: [Change] = []
    var pages: [String: Pages] = [:]
    var staleCache: StaleCache?
    var connections: [ObjectIdentifier: any Channel] = [:]
    var isStopped = false

    var refusals: [Refusal] = []
    var token: String?
    var tokenKeys: (issuer: String, json: String)?
    var keyReads = 0
    var delay = Duration.zero
    var bodyDelay = Duration.zero
    var tellsGoneAsEvent = false
    var requests: [TestCluster.Request] = []

    private struct Term: Hashable {
        var resource: KubernetesResource
        /// Empty: every object of the resource.
        var name = ""
        var value = ""
        var isField = false
    }

    /// In the order of a list.
    func sorted(_ resource: KubernetesResource) -> [StoredObject] { all(Term(resource: resource)) }

    func sorted(_ filter: ObjectFilter) -> [StoredObject] {
        var term = Term(resource: filter.resource)
        if let (name, value) = filter.fields.equality {
            term = Term(resource: filter.resource, name: name, value: value, isField: true)
        } else if let (name, value) = filter.labels.equality {
            term = Term(resource: filter.resource, name: name, value: value)
        }
        return all(term).filter(filter.passes)
    }

    private func all(_ term: Term) -> [StoredObject] {
        (index[term] ?? []).compactMap { objects[$0] }.sorted { $0.key < $1.key }
    }

    private mutating func store(_ object: StoredObject?, at key: StoredObject.Key) -> StoredObject? {
        func terms(_ object: StoredObject) -> [Term] {
            [Term(resource: key.resource)]
                + object.labels.map { Term(resource: key.resource, name: $0, value: $1) }
                + object.fields.map { Term(resource: key.resource, name: $0, value: $1, isField: true) }
        }
        let previous = objects[key]
        if let previous { for term in terms(previous) { index[term]?.remove(key) } }
        objects[key] = object
        if let object { for term in terms(object) { index[term, default: []].insert(key) } }
        return previous
    }

    mutating func put(_ json: Data, isAnnounced: Bool, version: Int? = nil) throws -> Int {
        let version = version ?? resourceVersion + 1
        let object = try StoredObject(json, resourceVersion: version)
        let previous = store(object, at: object.key)
        resourceVersion = version
        record(
            Change(
                resourceVersion: version, type: previous == nil ? .added : .modified, object: object,
                previous: previous), isAnnounced: isAnnounced)
        return version
    }

    mutating func delete(_ key: StoredObject.Key, isAnnounced: Bool, version: Int? = nil, last: Data? = nil) throws {
        guard let known = store(nil, at: key) else {
            throw ClusterError.notFound("\(key.resource) \(key.namespace)/\(key.name)")
        }
        resourceVersion = version ?? resourceVersion + 1
        let object = try StoredObject(last ?? known.json, resourceVersion: resourceVersion)
        record(
            Change(resourceVersion: resourceVersion, type: .deleted, object: object, previous: known),
            isAnnounced: isAnnounced)
    }

    mutating func play(_ event: Story.Event, isAnnounced: Bool) throws {
        let version = max(event.resourceVersion, resourceVersion + 1)
        if event.change == .deleted {
            let object = try StoredObject(event.object, resourceVersion: version)
            try delete(object.key, isAnnounced: isAnnounced, version: version, last: event.object)
        } else {
            _ = try put(event.object, isAnnounced: isAnnounced, version: version)
        }
    }

    private mutating func record(_ change: Change, isAnnounced: Bool) {
        history[change.object.resource, default: []].append(change)
        guard isAnnounced else { return }
        if held.contains(change.object.resource) {
            heldChanges.append(change)
        } else {
            for watch in watches.values { watch.tell(change) }
        }
    }

    mutating func releaseHeld() {
        for change in heldChanges {
            for watch in watches.values where watch.startsBefore(change) { watch.tell(change) }
        }
        held = []
        heldChanges = []
    }

    func sendBookmarks() {
        for watch in watches.values { watch.bookmark(resourceVersion) }
    }

    mutating func endWatches(inMidLine: Bool) {
        for watch in watches.values { watch.end(inMidLine: inMidLine) }
        watches = [:]
    }

    mutating func freezeWatches() { watches = [:] }

    func inject(_ line: Data, into resource: KubernetesResource) {
        for watch in watches.values where watch.filter.resource == resource { watch.write(line) }
    }

    /// The refusal that the request meets, which is used up by it.
    mutating func refusal(_ verb: String, _ resource: KubernetesResource) -> Refusal? {
        let index = refusals.firstIndex {
            $0.verb ?? verb == verb && $0.resource ?? resource == resource && $0.times > 0
        }
        guard let index else { return nil }
        if refusals[index].passing > 0 {
            refusals[index].passing -= 1
            return nil
        }
        refusals[index].times -= 1
        return refusals[index]
    }
}

/// What a list or watch is of.
struct ObjectFilter {
    var resource: KubernetesResource
    var namespace: String?
    var labels: ObjectSelector
    var fields: ObjectSelector

    func passes(_ object: StoredObject) -> Bool {
        object.resource == resource && (namespace ?? object.namespace) == object.namespace
            && labels.matches(object.labels) && fields.matches(object.fields)
    }
}

/// An open watch.
struct WatchStream {
    var filter: ObjectFilter
    var start: Int
    var wantsBookmarks: Bool
    var channel: any Channel

    /// As a real API server tells a change: what leaves the selection is deleted, in the state that it had in it.
    func tell(_ change: ClusterState.Change) {
        let isIn = change.type != .deleted && filter.passes(change.object)
        let wasIn = change.previous.map(filter.passes) ?? false
        switch (wasIn, isIn) {
        case (false, true): write("ADDED", change.object.json)
        case (true, true): write("MODIFIED", change.object.json)
        case (true, false):
            let last = change.type == .deleted ? change.object : change.previous?.at(change.resourceVersion)
            write("DELETED", last?.json ?? change.object.json)
        case (false, false): break
        }
    }

    func startsBefore(_ change: ClusterState.Change) -> Bool { start < change.resourceVersion }

    func bookmark(_ version: Int) {
        guard wantsBookmarks else { return }
        let kind = filter.resource.plural
        write(
            "BOOKMARK",
            Data(
                #"{"kind":"\#(kind)","apiVersion":"v1","metadata":{"resourceVersion":"\#(version)","creationTimestamp":null}}"#
                    .utf8))
    }

    func write(_ type: String, _ object: Data) {
        write(Data(#"{"type":"\#(type)","object":"#.utf8) + object + Data("}".utf8))
    }

    func write(_ line: Data) {
        channel.writeAndFlush(ResponsePart.body(line + Data("\n".utf8)), promise: nil)
    }

    func end(inMidLine: Bool) {
        if inMidLine {
            channel.writeAndFlush(ResponsePart.body(Data(#"{"type":"MODIFIED","object":{"api"#.utf8)), promise: nil)
            channel.close(promise: nil)
        } else {
            channel.writeAndFlush(ResponsePart.end, promise: nil)
        }
    }
}
