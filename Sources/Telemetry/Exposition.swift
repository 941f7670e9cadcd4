/// Metrics in Prometheus' text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats).
package struct Exposition {
    package typealias Labels = [(name: String, value: String)]

    package private(set) var text = ""

    package init() {}

    package mutating func gauge(_ name: String, _ help: String, _ samples: [(Labels, Double)]) {
        family(name, "gauge", help)
        for (labels, value) in samples { sample(name, labels, Self.number(value)) }
    }

    /// Whole numbers, which a Double would round above 2^53.
    package mutating func gauge(_ name: String, _ help: String, _ samples: [(Labels, UInt64)]) {
        family(name, "gauge", help)
        for (labels, value) in samples { sample(name, labels, "\(value)") }
    }

    /// `name` ends in `_total`.
    package mutating func counter(_ name: String, _ help: String, _ samples: [(Labels, UInt64)]) {
        family(name, "counter", help)
        for (labels, value) in samples { sample(name, labels, "\(value)") }
    }

    package mutating func histogram(_ name: String, _ help: String, _ series: [(Labels, Histogram.Reading)]) {
        family(name, "histogram", help)
        for (labels, reading) in series {
            var count: UInt64 = 0
            for (bound, bucket) in zip(reading.bounds.map(Self.number) + ["+Inf"], reading.counts) {
                count += bucket
                sample(name + "_bucket", labels + [("le", bound)], "\(count)")
            }
            sample(name + "_sum", labels, Self.number(reading.sum))
            sample(name + "_count", labels, "\(count)")
        }
    }

    private mutating func family(_ name: String, _ type: String, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
    }

    private mutating func sample(_ name: String, _ labels: Labels, _ value: String) {
        let list = labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
        text += name + (list.isEmpty ? "" : "{\(list)}") + " \(value)\n"
    }

    /// Whole numbers without a fraction.
    private static func number(_ value: Double) -> String {
        Int64(exactly: value).map(String.init) ?? "\(value)"
    }

    /// A label's value between its quotation marks.
    private static func escaped(_ value: String) -> String {
        value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }
}
