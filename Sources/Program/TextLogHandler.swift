package import Logging

/// Lines of text, of which nothing that comes from outside can begin another, or move a terminal's cursor.
package struct TextLogHandler: LogHandler {
    private var stream: StreamLogHandler

    package init(_ stream: StreamLogHandler) { self.stream = stream }

    package var logLevel: Logger.Level {
        get { stream.logLevel }
        set { stream.logLevel = newValue }
    }

    package var metadata: Logger.Metadata {
        get { stream.metadata }
        set { stream.metadata = newValue.mapValues(\.escaped) }
    }

    package var metadataProvider: Logger.MetadataProvider? {
        get { stream.metadataProvider }
        set { stream.metadataProvider = newValue }
    }

    package subscript(metadataKey key: String) -> Logger.MetadataValue? {
        get { stream[metadataKey: key] }
        set { stream[metadataKey: key] = newValue?.escaped }
    }

    package func log(event: LogEvent) {
        var event = event
        event.message = "\("\(event.message)".escaped)"
        event.metadata = event.metadata?.mapValues(\.escaped)
        stream.log(event: event)
    }
}

extension Logger.MetadataValue {
    fileprivate var escaped: Logger.MetadataValue { "\("\(self)".escaped)" }
}

extension String {
    /// With control characters as JSON writes them (RFC 8259, section 7).
    fileprivate var escaped: String {
        func isControl(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.generalCategory == .control }
        guard unicodeScalars.contains(where: isControl) else { return self }
        var text = ""
        for scalar in unicodeScalars {
            if isControl(scalar) {
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
