import CNI
import Foundation
import Testing

/// Random damage to all that comes from outside. Whatever it is, the plugin does not crash, and prints either nothing, a
/// result, or an error object with a code that is known.
struct PluginFuzzTests {
    private static let verbs = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"]
    /// The specification's, this plugin's own, and 42, which the delegate of these tests has.
    private static let codes: Set<Int> = [1, 4, 5, 6, 7, 11, 42, 50, 100, 109, 110]
    private static let documents = [
        PluginFixture.ipam, PluginFixture.main,
        PluginFixture.main.with(
            version: "1.1.0",
            #""cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}],"prevResult":\#(PluginFixture.made)"#),
    ]

    /// Runs `body` with numbers that HOLDFAST_SEED brings again.
    private func fuzz(_ rounds: Int, _ body: (inout Random) throws -> Void) throws {
        let given = ProcessInfo.processInfo.environment["HOLDFAST_SEED"].flatMap(UInt64.init)
        let seed = given ?? UInt64.random(in: .min ... .max)
        print("HOLDFAST_SEED=\(seed)")
        var random = Random(seed: seed)
        for _ in 0..<rounds { try body(&random) }
    }

    private func isInOrder(_ verb: String, _ output: JSON?, _ status: Int32) -> Bool {
        guard status == 0 else {
            guard let output, let code = output["code"]?.integer else { return false }
            return status == 1 && Self.codes.contains(code) && output["msg"]?.string?.isEmpty == false
                && output["cniVersion"]?.string != nil
        }
        switch verb {
        case "ADD": return output?.object?.isResult == true && output?["cniVersion"]?.string != nil
        case "VERSION": return output?["supportedVersions"]?.array?.isEmpty == false
        default: return output == nil
        }
    }

    @Test func `configurations, damaged in their bytes and in their values`() throws {
        try fuzz(3000) { random in
            let document = Self.documents.randomElement(using: &random) ?? ""
            let input: [UInt8] =
                if Bool.random(using: &random) {
                    random.damage(Array(document.utf8))
                } else {
                    Array(random.change(try JSON(parsing: document)).description.utf8)
                }
            let fixture = PluginFixture()
            fixture.succeed()
            var environment = fixture.environment
            let verb = Self.verbs.randomElement(using: &random) ?? ""
            environment["CNI_COMMAND"] = verb
            let (output, status) = Plugin(host: fixture.host, environment: environment).run(input: input)
            #expect(isInOrder(verb, output, status), "\(verb) \(String(decoding: input, as: UTF8.self))")
        }
    }

    @Test func `the environment, above all CNI_ARGS`() throws {
        try fuzz(3000) { random in
            let fixture = PluginFixture()
            fixture.succeed()
            var environment = fixture.environment
            let verb = Self.verbs.randomElement(using: &random) ?? ""
            environment["CNI_COMMAND"] = verb
            for _ in 0...Int.random(in: 0...2, using: &random) {
                let name =
                    Bool.random(using: &random) ? "CNI_ARGS" : environment.keys.sorted().randomElement(using: &random)
                let damaged = random.damage(Array((environment[name ?? ""] ?? "").utf8))
                environment[name ?? ""] = String(decoding: damaged, as: UTF8.self)
            }
            let input = Self.documents.randomElement(using: &random) ?? ""
            let (output, status) = Plugin(host: fixture.host, environment: environment).run(input: Array(input.utf8))
            #expect(isInOrder(environment["CNI_COMMAND"] ?? "", output, status), "\(environment)")
        }
    }

    @Test func `results and errors of a delegate`() throws {
        let error = #"{"cniVersion":"1.0.0","code":42,"msg":"the delegate refuses","details":"why"}"#
        try fuzz(3000) { random in
            let isError = Bool.random(using: &random)
            let document = isError ? error : PluginFixture.made
            let printed =
                Bool.random(using: &random)
                ? random.damage(Array(document.utf8))
                : Array(random.change(try JSON(parsing: document)).description.utf8)
            let fixture = PluginFixture()
            fixture.host.outcomes["ADD"] = ProcessOutcome(
                status: Bool.random(using: &random)
                    ? (isError ? 1 : 0) : [0, 1, 2, 137].randomElement(using: &random) ?? 0,
                output: printed)
            let (output, status) = fixture.run("ADD", PluginFixture.main)
            // The delegate's own code is passed on, whichever it is.
            let code = (try? JSON(parsing: printed)).flatMap { CNIError($0)?.code.rawValue }
            let isPassedOn = status == 1 && code != nil && output?["code"]?.integer == code
            #expect(
                isPassedOn || isInOrder("ADD", output, status), "\(String(decoding: printed, as: UTF8.self))")
            if status != 0 { #expect(fixture.host.events.suffix(2).first?.hasSuffix(" DEL") == true) }
        }
    }

    @Test func `answers of an agent`() throws {
        try fuzz(2000) { random in
            let fixture = PluginFixture()
            fixture.succeed()
            let body = fixture.host.answer.body
            fixture.host.answer = AgentReply(
                status: [200, 200, 422, 503, 0].randomElement(using: &random) ?? 200,
                body: Bool.random(using: &random)
                    ? random.damage(body) : Array(random.change(try JSON(parsing: body)).description.utf8))
            let verb = ["ADD", "DEL", "CHECK", "GC", "STATUS"].randomElement(using: &random) ?? ""
            let (output, status) = fixture.run(verb, Self.documents[2])
            #expect(
                isInOrder(verb, output, status), "\(String(decoding: fixture.host.answer.body, as: UTF8.self))")
        }
    }
}

extension Random {
    /// A few bytes changed, left out, doubled or put in.
    mutating func damage(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for _ in 0...Int.random(in: 0...3, using: &self) {
            let index = Int.random(in: 0...bytes.count, using: &self)
            switch Int.random(in: 0...3, using: &self) {
            case 0 where index < bytes.count: bytes[index] = UInt8.random(in: .min ... .max, using: &self)
            case 1 where index < bytes.count: bytes.removeSubrange(index..<min(bytes.count, index + 9))
            case 2 where index < bytes.count: bytes.insert(contentsOf: bytes[index...].prefix(9), at: index)
            default:
                bytes.insert(contentsOf: Array(#"{"[]},:;=1-/.0\ "#.utf8.shuffled(using: &self).prefix(3)), at: index)
            }
        }
        return bytes
    }

    /// Some values and keys become others; the text stays JSON.
    mutating func change(_ json: JSON) -> JSON {
        if Int.random(in: 0..<12, using: &self) == 0 { return other() }
        switch json {
        case .array(let elements):
            var elements = elements.map { change($0) }
            if let element = elements.first, Bool.random(using: &self) { elements.append(element) }
            return .array(elements)
        case .object(let object):
            var changed = JSONObject()
            for member in object.members where Int.random(in: 0..<15, using: &self) > 0 {
                changed[Int.random(in: 0..<20, using: &self) == 0 ? "x" : member.key] = change(member.value)
            }
            return .object(changed)
        default: return json
        }
    }

    private mutating func other() -> JSON {
        let values: [JSON] = [
            .null, true, "", "x", "1.1.0", "\0", "😀/..", -1, 0, .number("1e999"), [], [[]], [:],
            ["type": "holdfast-cni"],
            .string(String(repeating: "a", count: 300)), "02:00:00:00:00:01", ["address": "fd00::1/64"],
        ]
        return values.randomElement(using: &self) ?? .null
    }
}
