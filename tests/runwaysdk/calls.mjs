// Runway's SDK for Node.js, unmodified, at Taxiway: prints what each call came to, as one line of JSON.
import RunwayML from '@runwayml/sdk';

// The SDK's own pauses, between attempts and between polls, are short here; its timeouts stay as they are.
const after = globalThis.setTimeout;
globalThis.setTimeout = (work, wait, ...rest) => after(work, wait > 300 && wait < 10_000 ? 100 : wait, ...rest);

let drops = 0; // so many answers to POSTs are lost on their way back
const lossy = async (url, init) => {
  const answer = await fetch(url, init);
  if (init.method?.toUpperCase() === 'POST' && drops > 0) {
    drops -= 1;
    await answer.arrayBuffer();
    throw new TypeError('fetch failed');
  }
  return answer;
};

const client = new RunwayML({ fetch: lossy }); // RUNWAYML_BASE_URL and RUNWAYML_API_SECRET
const boat = {
  model: 'gen4_turbo', promptImage: process.env.IMAGE, promptText: 'a boat', ratio: '1280:720', duration: 5,
};
const errorOf = async (call) => {
  try {
    await call;
  } catch (error) {
    return { status: error.status, error: error.error };
  }
};

drops = 1;
const first = await client.imageToVideo.create(boat);
const ended = await client.tasks.retrieve(first.id).waitForTaskOutput();
const again = await client.tasks.retrieve(first.id);

drops = 4;
const four = await Promise.all([1, 2, 3, 4].map(() => client.imageToVideo.create(boat)));

client.idempotencyHeader = 'Idempotency-Key';
drops = 1;
const named = await client.imageToVideo.create({ ...boat, promptText: 'a ship' });

await client.tasks.delete(four[0].id);
console.log(JSON.stringify({
  first: first.id,
  estimatedCost: first.estimatedCost,
  ended,
  again,
  four: four.map((task) => task.id),
  named: named.id,
  deletedTwice: await errorOf(client.tasks.delete(four[0].id)),
  waitedForDeleted: await errorOf(client.tasks.retrieve(four[0].id).waitForTaskOutput()),
  invalid: await errorOf(client.imageToVideo.create({ ...boat, ratio: '16:9' })),
  credits: (await client.organization.retrieve()).creditBalance,
}));
