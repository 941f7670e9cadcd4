import Access
import Foundation
import IPAMModel
import Testing

@Suite struct PolicyTests {
    private func policy(_ text: String) throws(IPAMError) -> Policy {
        try Policy(yaml: Data(text.utf8), source: "p.yaml")
    }

    private func token(_ name: String, _ groups: Set<String>) -> Caller? {
        try? policy(
            """
            agent: {serviceAccounts: [holdfast/agent]}
            operator: {groups: [ops, "system:serviceaccounts:admin"]}
            reader:
              serviceAccounts: [holdfast/agent]
            """
        ).caller(with: TokenIdentity(name: name, groups: groups, expires: .distantFuture))
    }

    @Test func `tokens have the roles of their account and groups`() {
        let accounts: Set = ["system:serviceaccounts", "system:serviceaccounts:holdfast"]
        #expect(token("system:serviceaccount:holdfast:agent", accounts)?.roles == [.agent, .reader])
        #expect(token("system:serviceaccount:holdfast:other", accounts)?.roles == [])
        #expect(token("anna", ["ops"])?.roles == .operator)
        #expect(token("holdfast/agent", [])?.roles == [], "a name of another kind")
        #expect(token("system:serviceaccount:holdfast:agent", [])?.roles == [], "a name that is only claimed")
    }

    @Test func `certificates have the roles of their names, and kubelets' names a node`() throws {
        let policy = try policy(
            """
            agent: {certificates: ["system:node:*"]}
            operator: {certificates: [admin]}
            """)
        #expect(policy.caller(withCertificate: ["system:node:node-a"]).node == "node-a")
        #expect(policy.caller(withCertificate: ["x", "system:node:node-b"]).node == "node-b")
        #expect(policy.caller(withCertificate: ["system:node:node-a"]).roles == .agent)
        #expect(policy.caller(withCertificate: ["x", "admin"]).roles == .operator)
        #expect(policy.caller(withCertificate: ["administrator"]).roles == [])
        #expect(Policy.anyCertificate.caller(withCertificate: ["whoever"]).roles == .operator)
    }

    @Test(arguments: [
        ("agnet: {}", "'agnet'"), ("agent: {serviceaccounts: [a/b]}", "serviceaccounts"),
        ("agent: [x]", "is no policy"),
        ("agent: {serviceAccounts: [agent]}", "NAMESPACE/NAME"), ("operator: {groups: [\"\"]}", "empty"),
        ("- x", "is no policy"),
        ("operator: {certificates: admin}", "is no policy"),
    ])
    func `a policy that says something else than it means is refused`(text: String, why: String) {
        #expect { try policy(text) } throws: { ($0 as? IPAMError)?.message.contains(why) == true }
    }

    @Test func `a role without entries is nobody's`() throws {
        #expect(try policy("agent:\noperator: {}\n") == Policy())
    }
}
