/// A value that is nil most of the time, behind one word: where it is nil it takes no room, and a copy costs next to nothing.
@propertyWrapper
package struct Rare<Value: Hashable & Sendable>: Hashable, Sendable {
    private final class Box: Sendable {
        let value: Value
        init(_ value: Value) { self.value = value }
    }

    private var box: Box?

    package init(wrappedValue: Value?) { box = wrappedValue.map(Box.init) }

    package var wrappedValue: Value? {
        get { box?.value }
        set { box = newValue.map(Box.init) }
    }

    package static func == (a: Self, b: Self) -> Bool { a.box === b.box || a.box?.value == b.box?.value }

    package func hash(into hasher: inout Hasher) { hasher.combine(box?.value) }
}
