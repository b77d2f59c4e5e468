#!/usr/bin/env node
// Runs the template's CloudFront function, as it is deployed, on the requests that the local cloud's own front is tested on.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const template = readFileSync(new URL('../../infra/template.yaml', import.meta.url), 'utf8');
const [, code] = template.match(/FunctionCode: \|\n((?: {8}.*\n|\n)+)/);
const handler = new Function(`${code}; return handler;`)();

function seen(uri, headers) {
  const given = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, { value }]));
  const made = handler({ request: { method: 'GET', uri, headers: given } }).headers;
  return Object.fromEntries(Object.entries(made).map(([name, { value }]) => [name, value]));
}

const sent = {
  host: 'towpath.example',
  authorization: 'Bearer twk_1',
  'x-towpath-authorization': 'Bearer twk_forged',
  'x-towpath-host': 'forged.example',
};
const address = { host: 'towpath.example', 'x-towpath-host': 'towpath.example' };
const kept = { ...address, authorization: 'Bearer twk_1' };
const moved = { ...address, 'x-towpath-authorization': 'Bearer twk_1' };
for (const [uri, expected] of [
  ['/runs/run_1/events/stream', moved],
  ['/runs/run_1/events', kept],
  ['/runs//events/stream', kept],
  ['/runs/a/b/events/stream', kept],
]) {
  assert.deepEqual(seen(uri, sent), expected, uri);
}
assert.deepEqual(seen('/runs/run_1/events/stream', { host: 'h' }), { host: 'h', 'x-towpath-host': 'h' });
console.log('the front function does what the local front does');
