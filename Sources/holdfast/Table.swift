/// Columns as wide as their widest cell, two spaces apart.
struct Table {
    private var rows: [[String]]

    init(_ header: [String]) { rows = [header] }

    mutating func append(_ row: [String]) { rows.append(row.map { $0.isEmpty ? "-" : $0 }) }

    var text: String {
        let widths = rows.reduce([Int](repeating: 0, count: rows[0].count), Self.widths)
        return rows.map { Self.line($0, widths: widths) }.joined(separator: "\n")
    }

    /// As wide as the cells of one more row need it.
    static func widths(_ widths: [Int], with row: [String]) -> [Int] { zip(widths, row).map { max($0, $1.count) } }

    static func line(_ cells: [String], widths: [Int]) -> String {
        var line = ""
        for (cell, width) in zip(cells, widths) {
            line += cell + String(repeating: " ", count: max(0, width - cell.count) + 2)
        }
        while line.hasSuffix(" ") { line.removeLast() }
        return line
    }
}
