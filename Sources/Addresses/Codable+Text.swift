// In files of our own, addresses are the text that people know. The plugin, which is Embedded Swift, has none of these.
#if !hasFeature(Embedded)

    extension Decoder {
        fileprivate func value<Value>(of type: Value.Type, from text: (String) -> Value?) throws -> Value {
            let container = try singleValueContainer()
            let string = try container.decode(String.self)
            guard let value = text(string) else {
                throw DecodingError.dataCorruptedError(in: container, debugDescription: "no \(type): \"\(string)\"")
            }
            return value
        }
    }

    extension Encoder {
        fileprivate func put(_ text: String) throws {
            var container = singleValueContainer()
            try container.encode(text)
        }
    }

    extension IPAddress: Codable {
        package init(from decoder: any Decoder) throws {
            self = try decoder.value(of: IPAddress.self) { IPAddress($0) }
        }

        package func encode(to encoder: any Encoder) throws { try encoder.put(description) }
    }

    extension IPPrefix: Codable {
        package init(from decoder: any Decoder) throws { self = try decoder.value(of: IPPrefix.self) { IPPrefix($0) } }

        package func encode(to encoder: any Encoder) throws { try encoder.put(description) }
    }

    extension MACAddress: Codable {
        package init(from decoder: any Decoder) throws {
            self = try decoder.value(of: MACAddress.self) { MACAddress($0) }
        }

        package func encode(to encoder: any Encoder) throws { try encoder.put(description) }
    }

#endif
