// The JavaScript of HesedVid's page, but for the address and the key; prints the best thumbnail and two URLs.
const [base, key] = process.argv.slice(2);
const api = `${base}/v1/api`, headers = { 'X-Api-Key': key };

const generateThumbnail = async (videoId, options) => {
  const response = await fetch(`${api}/org_123456789/videos/${videoId}/thumbnails`, {
    method: 'POST',
    headers: { ...headers, 'Content-Type': 'application/json' },
    body: JSON.stringify(options),
  });
  return response.json();
};
const checkThumbnailStatus = async (jobId) => (await fetch(`${api}/thumbnails/${jobId}`, { headers })).json();
const getThumbnail = async (videoId) =>
  (await fetch(`${api}/org_123456789/videos/${videoId}/thumbnail`, { headers })).json();

const finished = async (videoId, options) => {
  const response = await generateThumbnail(videoId, options);
  for (let status = 'pending'; status === 'pending' || status === 'processing'; ) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const answer = await checkThumbnailStatus(response.jobId);
    status = answer.status;
    if (status === 'completed') return answer.url;
  }
  throw new Error('Thumbnail generation failed');
};

const urls = [
  await finished('pubvid_AbCdEf', { width: 320, height: 180, timestampMs: 2000 }),
  await finished('pubvid_AbCdEf', { width: 1200, height: 630, timestampMs: 0 }),
];
console.log(JSON.stringify([await getThumbnail('pubvid_AbCdEf'), urls]));
