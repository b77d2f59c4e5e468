#!/usr/bin/env node
// Runs the template's CloudFront function, as it is deployed, on the requests that the local cloud's own front is tested on.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const template = readFileSync(new URL('../../infra/template.yaml', import.meta.url), 'utf8');
const [, code] = template.match(/FunctionCode: \|\n((?: {8}.*\n|\n)+)/);
const handler = new Function(`${code}; return handler;`)();

function asked(uri, headers, querystring) {
  const given = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, { value }]));
  return handler({ request: { method: 'GET', uri, headers: given, querystring } });
}

function seen(uri, headers) {
  const made = asked(uri, headers, {}).headers;
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

// The WebSocket API gets the executor of the path, and no other.
const token = { value: 'twx_1' };
for (const [uri, given, expected] of [
  ['/ws/executors/e-1', { token }, { uri: '/', querystring: { token, executor: { value: 'e-1' } } }],
  ['/ws/executors/e-1', {}, { uri: '/', querystring: { executor: { value: 'e-1' } } }],
  [
    '/ws/executors/e-1',
    { executor: { value: 'e-2', multiValue: [{ value: 'e-2' }, { value: 'e-3' }] }, '%65xecuto%72': { value: 'e-4' }, '%': token },
    { uri: '/', querystring: { '%': token, executor: { value: 'e-1' } } },
  ],
  ['/ws/executors', { executor: token }, { uri: '/ws/executors', querystring: { executor: token } }],
  ['/api/ws/executors/e-1', { token }, { uri: '/api/ws/executors/e-1', querystring: { token } }],
]) {
  const { uri: made, querystring } = asked(uri, sent, given);
  assert.deepEqual({ uri: made, querystring }, expected, uri);
}
for (const id of ['', 'a/b', 'a&token=b', 'a%26token=b', 'a b', 'ä']) {
  assert.equal(asked(`/ws/executors/${id}`, sent, { token }).statusCode, 404, id);
}
assert.equal(asked('/ws/executors/e-1', sent, {}).headers.authorization.value, 'Bearer twk_1');
console.log('the front function does what the local front does');
