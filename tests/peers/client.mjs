// Drives an MCP server with the official TypeScript client; the same input and output as client.py.
// Run it from target/peers/node, where its packages are.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const packages = createRequire(`${process.cwd()}/`);
const sdk = await import(pathToFileURL(packages.resolve('@modelcontextprotocol/client')).href);

let input = '';
for await (const chunk of process.stdin) input += chunk;
const order = JSON.parse(input);

const mode = /^\d/.test(order.mode) ? { pin: order.mode } : order.mode;
const capabilities = order.answers ? { elicitation: { form: {} }, sampling: {}, roots: {} } : {};
const client = new sdk.Client(
  { name: 'o1-tests', version: '1.0.0' },
  { capabilities, versionNegotiation: { mode } },
);
if (order.answers) {
  client.setRequestHandler('elicitation/create', async ({ params }) => {
    const names = Object.keys(params.requestedSchema.properties);
    return { action: 'accept', content: Object.fromEntries(names.map((name) => [name, `the ${name} of Ada`])) };
  });
  client.setRequestHandler('sampling/createMessage', async ({ params }) => {
    const [{ content }] = params.messages;
    const { text } = [content].flat()[0];
    return { role: 'assistant', model: 'o1', content: { type: 'text', text: `Sampled for ${text}` } };
  });
  client.setRequestHandler('roots/list', async () => ({ roots: [{ uri: 'file:///o1/root' }] }));
}
const heard = [];
client.setNotificationHandler('notifications/message', ({ params }) => {
  heard.push(params);
});
const limit = setTimeout(() => {
  console.error('out of time');
  process.exit(1);
}, (order.seconds ?? 60) * 1000);

await client.connect(new sdk.StreamableHTTPClientTransport(new URL(order.url)));

const steps = {
  'tools/list': (params) => client.listTools(params),
  'tools/call': (params) => client.callTool(params),
  'resources/list': (params) => client.listResources(params),
  'resources/templates/list': (params) => client.listResourceTemplates(params),
  'resources/read': (params) => client.readResource(params),
  'prompts/list': (params) => client.listPrompts(params),
  'prompts/get': (params) => client.getPrompt(params),
};
steps.heard = async () => ({ heard });
const take = async ({ method, params }) => {
  try {
    return { result: await steps[method](params ?? {}) };
  } catch (error) {
    return { error: String(error) };
  }
};
const results = [];
for (const step of order.steps) {
  const end = Date.now() + 60_000;
  let failed = 0;
  let taken = await take(step);
  while (step.until && !JSON.stringify(taken.result ?? null).includes(step.until) && Date.now() < end) {
    failed += 'error' in taken ? 1 : 0;
    await new Promise((resolve) => setTimeout(resolve, 50));
    taken = await take(step);
  }
  results.push({ ...taken, failed });
}
const protocolVersion = client.getNegotiatedProtocolVersion?.() ?? null;
clearTimeout(limit);
await client.close();
console.log(JSON.stringify({ protocolVersion, results, heard }));
