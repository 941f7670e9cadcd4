/// A label or field selector, as the API's query has it.
struct ObjectSelector {
    private enum Requirement {
        case exists(String)
        case missing(String)
        case one(of: [String], String)
        case none(of: [String], String)
    }
    private var requirements: [Requirement] = []

    /// Nil where it cannot be read.
    init?(_ text: String) {
        var depth = 0
        var parts = [""]
        for character in text {
            if character == "(" { depth += 1 }
            if character == ")" { depth -= 1 }
            if character == ",", depth == 0 { parts.append("") } else { parts[parts.count - 1].append(character) }
        }
        for part in parts.map(Self.trimmed) where !part.isEmpty {
            guard let requirement = Self.requirement(part) else { return nil }
            requirements.append(requirement)
        }
    }

    private static func trimmed(_ text: some StringProtocol) -> String {
        var text = Substring(text)
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }

    private static func requirement(_ text: String) -> Requirement? {
        for (word, isIn) in [(" notin ", false), (" in ", true)] {
            guard let range = text.firstRange(of: word) else { continue }
            let values = trimmed(text[range.upperBound...])
            guard values.hasPrefix("("), values.hasSuffix(")") else { return nil }
            let list = values.dropFirst().dropLast().split(separator: ",").map(trimmed)
            let key = trimmed(text[..<range.lowerBound])
            return isIn ? .one(of: list, key) : .none(of: list, key)
        }
        for (sign, isEqual) in [("!=", false), ("==", true), ("=", true)] {
            guard let range = text.firstRange(of: sign) else { continue }
            let (key, value) = (trimmed(text[..<range.lowerBound]), trimmed(text[range.upperBound...]))
            return isEqual ? .one(of: [value], key) : .none(of: [value], key)
        }
        return text.hasPrefix("!") ? .missing(trimmed(text.dropFirst())) : .exists(text)
    }

    var keys: [String] {
        requirements.map {
            switch $0 {
            case .exists(let key), .missing(let key), .one(of: _, let key), .none(of: _, let key): key
            }
        }
    }

    /// The first requirement that asks for one value.
    var equality: (name: String, value: String)? {
        for case .one(of: let list, let key) in requirements where list.count == 1 { return (key, list[0]) }
        return nil
    }

    func matches(_ values: [String: String]) -> Bool {
        requirements.allSatisfy {
            switch $0 {
            case .exists(let key): values[key] != nil
            case .missing(let key): values[key] == nil
            case .one(of: let list, let key): values[key].map(list.contains) ?? false
            case .none(of: let list, let key): values[key].map { !list.contains($0) } ?? true
            }
        }
    }
}
