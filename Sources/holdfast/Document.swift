import Yams

/// What JSON and YAML have in common, with the order of the fields kept.
enum Document {
    case string(String)
    case number(UInt32)
    case bool(Bool)
    case array([Document])
    case object([(name: String, value: Document)])

    /// Two spaces of indent, one field a line.
    var json: String { json(indent: "\n") }

    /// One line.
    var jsonLine: String { json(indent: nil) }

    private func json(indent: String?) -> String {
        func list(_ items: [String], _ open: String, _ close: String) -> String {
            guard !items.isEmpty else { return open + close }
            guard let indent else { return open + items.joined(separator: ",") + close }
            return open + indent + "  " + items.joined(separator: "," + indent + "  ") + indent + close
        }
        let inner = indent.map { $0 + "  " }
        switch self {
        case .string(let text): return Self.quoted(text)
        case .number(let number): return "\(number)"
        case .bool(let value): return "\(value)"
        case .array(let items): return list(items.map { $0.json(indent: inner) }, "[", "]")
        case .object(let fields):
            let colon = indent == nil ? ":" : ": "
            return list(fields.map { Self.quoted($0.name) + colon + $0.value.json(indent: inner) }, "{", "}")
        }
    }

    /// RFC 8259, section 7.
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\n": result += "\\n"
            case "\u{0}"..."\u{1f}":
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    var yaml: String {
        let text = (try? Yams.serialize(node: node, width: -1, allowUnicode: true)) ?? ""
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }

    private var node: Node {
        switch self {
        // Quoted where plain text would be read as something else ("1", "true", "null").
        case .string(let text):
            Node.scalar(.init(text, Tag(.str), Self.isPlain(text) ? .plain : .doubleQuoted))
        case .number(let number): Node("\(number)", Tag(.int))
        case .bool(let value): Node("\(value)", Tag(.bool))
        case .array(let items): Node(items.map(\.node), Tag(.seq), items.isEmpty ? .flow : .block)
        case .object(let fields): Node(fields.map { (Node($0.name), $0.value.node) }, Tag(.map))
        }
    }

    private static func isPlain(_ text: String) -> Bool {
        guard let node = try? Yams.compose(yaml: text), case .scalar(let scalar) = node else { return false }
        return scalar.string == text && node.tag == Tag(.str)
    }
}

extension Document {
    /// The fields that have a value: proto3's JSON form leaves out what is empty.
    static func fields(_ fields: KeyValuePairs<String, Document?>) -> Document {
        .object(fields.compactMap { name, value in value.map { (name, $0) } })
    }

    static func nonEmpty(_ text: String) -> Document? { text.isEmpty ? nil : .string(text) }
    static func nonEmpty(_ texts: [String]) -> Document? { texts.isEmpty ? nil : .array(texts.map { .string($0) }) }
    static func nonEmpty(_ documents: [Document]) -> Document? { documents.isEmpty ? nil : .array(documents) }
    /// 64-bit integers are strings in proto3's JSON form.
    static func nonZero(_ number: UInt64) -> Document? { number == 0 ? nil : .string("\(number)") }
    static func nonZero(_ number: UInt32) -> Document? { number == 0 ? nil : .number(number) }
    static func onlyTrue(_ value: Bool) -> Document? { value ? .bool(true) : nil }
}
