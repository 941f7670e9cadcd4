/// The few slots that an index has for one key: nearly always one, which then needs no memory of its own.
enum Slots: Sendable {
    case one(Int)
    case several([Int])

    func first(where condition: (Int) -> Bool) -> Int? {
        switch self {
        case .one(let slot): condition(slot) ? slot : nil
        case .several(let slots): slots.first(where: condition)
        }
    }

    var all: [Int] {
        switch self {
        case .one(let slot): [slot]
        case .several(let slots): slots
        }
    }
}

extension Dictionary where Value == Slots {
    mutating func add(_ slot: Int, of key: Key) {
        guard let old = updateValue(.one(slot), forKey: key) else { return }
        let others = old.all.filter { $0 != slot }
        if !others.isEmpty { self[key] = .several(others + [slot]) }
    }

    mutating func remove(_ slot: Int, of key: Key) {
        guard let old = removeValue(forKey: key) else { return }
        let others = old.all.filter { $0 != slot }
        if others.count == 1 { self[key] = .one(others[0]) } else if !others.isEmpty { self[key] = .several(others) }
    }
}
