/// What is known of a selection of objects: everything that the API server has told, as of the last word from it.
package struct ObjectCopy<Object: Decodable & Sendable>: Sendable {
    package struct Key: Hashable, Sendable {
        package var namespace: String
        package var name: String

        package init(namespace: String, name: String) {
            self.namespace = namespace
            self.name = name
        }

        init(_ reference: ObjectReference) { self.init(namespace: reference.namespace, name: reference.name) }
    }

    struct Entry: Sendable {
        var uid: String
        var object: Object
    }

    var entries: [Key: Entry] = [:]
    /// Objects that are there and cannot be read, and why.
    package private(set) var unreadable: [Key: String] = [:]
    /// A whole list has been read, and every change told since has been followed.
    package private(set) var isSynced = false
    /// All changes up to this one are in.
    package private(set) var resourceVersion = ""
    /// When the server last said that `resourceVersion` is all there is, or told the next change.
    package private(set) var confirmedAt: ContinuousClock.Instant?

    package init() {}

    package var objects: some Collection<Object> { entries.values.lazy.map(\.object) }
    package var count: Int { entries.count }

    package func object(namespace: String, name: String) -> Object? {
        entries[Key(namespace: namespace, name: name)]?.object
    }

    /// Whether the object may have changed to this version after the last word from the server.
    package func isBehind(_ reference: ObjectReference) -> Bool { isNews(reference.resourceVersion) }

    /// Whether nothing that was there at `confirmedAt` can be missing.
    package var isComplete: Bool { isSynced && unreadable.isEmpty }

    /// Whether nothing can be missing that was there `age` ago. Only what is missing in such a copy is gone.
    package func isComplete(asOf age: Duration, before now: ContinuousClock.Instant = .now) -> Bool {
        isComplete && confirmedAt.map { now - $0 <= age } ?? false
    }
}

/// One step of a copy; steps come in the order in which the objects changed.
package enum ObjectChange<Object: Decodable & Sendable>: Sendable {
    /// New, or another than before.
    case updated(Object, previous: Object?)
    /// Gone, or no longer in the selection: in its last known state.
    case removed(Object)
    /// The copy is complete as of now: after each whole list.
    case synced
}

extension ObjectCopy {
    /// Takes the list in place of what was known; returns the steps from the one to the other.
    mutating func replace(
        with list: ObjectList<Object>, at now: ContinuousClock.Instant
    ) -> [ObjectChange<Object>] {
        var changes: [ObjectChange<Object>] = []
        var new: [Key: Entry] = [:]
        var unreadable: [Key: String] = [:]
        for item in list.items {
            let key = Key(item.reference)
            let known = entries[key].flatMap { $0.uid == item.reference.uid ? $0 : nil }
            if let object = item.object {
                new[key] = Entry(uid: item.reference.uid, object: object)
                changes.append(.updated(object, previous: known?.object))
            } else {
                new[key] = known
                unreadable[key] = item.problem ?? ""
            }
        }
        let gone = entries.filter { new[$0.key]?.uid != $0.value.uid }.map { ObjectChange.removed($0.value.object) }
        (entries, self.unreadable) = (new, unreadable)
        (isSynced, resourceVersion, confirmedAt) = (true, list.resourceVersion, now)
        return gone + changes + [.synced]
    }

    /// Follows one event. What is not newer than the copy has been told before, and changes nothing.
    mutating func follow(_ event: WatchEvent<Object>, at now: ContinuousClock.Instant) -> [ObjectChange<Object>] {
        confirmedAt = now
        switch event {
        case .bookmark(let version):
            if isNews(version) { resourceVersion = version }
            return []
        case .added(let item), .modified(let item):
            guard isNews(item.reference.resourceVersion) else { return [] }
            resourceVersion = item.reference.resourceVersion
            return update(item)
        case .deleted(let item):
            guard isNews(item.reference.resourceVersion) else { return [] }
            resourceVersion = item.reference.resourceVersion
            let key = Key(item.reference)
            unreadable[key] = nil
            guard let known = entries.removeValue(forKey: key) else { return [] }
            return [.removed(item.object ?? known.object)]
        }
    }

    private mutating func update(_ item: Listed<Object>) -> [ObjectChange<Object>] {
        let key = Key(item.reference)
        guard let object = item.object else {
            unreadable[key] = item.problem ?? ""
            return []
        }
        unreadable[key] = nil
        let known = entries.updateValue(Entry(uid: item.reference.uid, object: object), forKey: key)
        guard let known, known.uid != item.reference.uid else {
            return [.updated(object, previous: known?.object)]
        }
        return [.removed(known.object), .updated(object, previous: nil)]
    }

    /// Versions of one resource grow (KEP-5504); those that are no numbers are believed to.
    private func isNews(_ version: String) -> Bool {
        guard let version = UInt64(version), let known = UInt64(resourceVersion) else { return true }
        return version > known
    }

    /// The server ended a watch in good order: nothing more was to tell.
    mutating func confirm(at now: ContinuousClock.Instant) { confirmedAt = now }
}
