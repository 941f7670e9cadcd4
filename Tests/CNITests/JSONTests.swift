import Testing

@testable import CNI

struct JSONTests {
    @Test(arguments: [
        #"{"b":1,"a":[true,false,null,"x"],"c":{"d":{}}}"#,
        #"{"big":18446744073709551616,"exact":1.0,"tiny":-1E-400,"zero":-0}"#,
        #""tab\tquote\"back\\é😀""#, "[]", "0", "\"\"", #"{"":{"":""}}"#,
    ])
    func `what is read is written again, keys in their order and numbers as they were`(text: String) throws {
        #expect(try JSON(parsing: text).description == text)
    }

    @Test func `escapes of every kind become the characters they stand for`() throws {
        let json = try JSON(parsing: #" "\u00e9\ud83d\ude00\b\f\n\r\t\/\\\"\u0000" "#)
        #expect(json.string == "\u{e9}\u{1f600}\u{8}\u{c}\n\r\t/\\\"\0")
        #expect(json.description == #""é😀\u0008\u000c\n\r\t/\\\"\u0000""#)
    }

    @Test(arguments: [
        "", " ", "{", "[1,]", "{\"a\":1,}", "{a:1}", "01", "1.", "-", "+1", ".5", "1e", "tru", "nullx", "\"", "\"\\x\"",
        "\"\\u12g4\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"a\nb\"", "[1] 2", "{\"a\":1,\"a\":2}",
        "[1 2]", "{\"a\" 1}", "'a'", "\u{feff}{}",
    ])
    func `what is not JSON is refused`(text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text) }
    }

    @Test func `bytes that are not UTF-8 are refused`() {
        #expect(throws: JSONError(problem: "bad UTF-8", offset: 2)) { try JSON(parsing: [0x22, 0xff, 0x22]) }
    }

    @Test func `deep nesting is refused and does not overflow the stack`() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(try JSON(parsing: nested(JSON.maximumDepth)).array != nil)
        #expect(throws: JSONError.self) { try JSON(parsing: nested(JSON.maximumDepth + 1)) }
        #expect(throws: JSONError.self) { try JSON(parsing: String(repeating: "[", count: 1_000_000)) }
    }

    @Test func `every cut of a document is refused, and random damage never crashes`() {
        let document = Array(#"{"cniVersion":"1.0.0","n":[1,-2.5e3,{"é":"😀\u00e9"}],"t":true,"z":null}"#.utf8)
        for length in document.indices { #expect((try? JSON(parsing: Array(document[..<length]))) == nil) }
        let seed = UInt64.random(in: .min ... .max)
        print("seed \(seed)")
        var random = Random(seed: seed)
        for _ in 0..<20_000 {
            var damaged = document
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                damaged[Int.random(in: damaged.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            // What is read all the same is a value: written and read once more it is the same.
            if let json = try? JSON(parsing: damaged) {
                #expect((try? JSON(parsing: json.description)) == json, "seed \(seed): \(damaged)")
            }
        }
    }
}

/// SplitMix64: the same numbers for the same seed.
struct Random: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        return z ^ z >> 31
    }
}
