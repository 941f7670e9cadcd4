import ArgumentParser
import Foundation
import Testing

@testable import holdfast

/// The commands that documents show are commands that there are.
@Suite struct DocumentsTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private static func documents() throws -> [URL] {
        let docs = root.appending(path: "docs")
        let names = try FileManager.default.contentsOfDirectory(atPath: docs.path).filter { $0.hasSuffix(".md") }
        return [root.appending(path: "README.md")] + names.sorted().map { docs.appending(path: $0) }
    }

    /// The lines of a document's code blocks on which `holdfast` is called, alone or in a pod, without what the shell takes.
    private static func commands(in text: String) -> [[String]] {
        var (isCode, isShell) = (false, false)
        var commands: [[String]] = []
        for line in text.replacing("\\\n", with: " ").split(separator: "\n", omittingEmptySubsequences: false) {
            let trimmed = line.trimmingCharacters(in: .whitespaces)
            if trimmed.hasPrefix("```") {
                (isCode, isShell) = (!isCode, !isCode && trimmed == "```")
                continue
            }
            guard isShell else { continue }
            let called = trimmed.range(of: " -- holdfast ").map { trimmed[$0.upperBound...] }
            guard let words = called ?? (trimmed.hasPrefix("holdfast ") ? trimmed.dropFirst(9) : nil) else { continue }
            commands.append(
                words.split(separator: " ").map(String.init).prefix { word in
                    !word.hasPrefix("#") && !word.hasPrefix(">") && word != "|" && word != "&"
                })
        }
        return commands
    }

    @Test func `each can be parsed`() throws {
        var count = 0
        for document in try Self.documents() where document.lastPathComponent != "reference.md" {
            for command in Self.commands(in: try String(contentsOf: document, encoding: .utf8)) {
                count += 1
                #expect(throws: Never.self, "\(document.lastPathComponent): holdfast \(command.joined(separator: " "))")
                {
                    try Holdfast.parseAsRoot(command)
                }
            }
        }
        #expect(count > 20)
    }

    @Test func `one that is not there is found out`() throws {
        let text =
            "```\nholdfast pool lst  # pools\n```\n\n   ```\n   kubectl exec x -- holdfast pool list >a\n   ```\n"
        let commands = Self.commands(in: text)
        #expect(commands == [["pool", "lst"], ["pool", "list"]])
        #expect(throws: (any Error).self) { try Holdfast.parseAsRoot(commands[0]) }
    }
}
