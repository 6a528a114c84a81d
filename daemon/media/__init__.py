"""All that runs in a worker: an open source and a task go in, encoded pictures come out, one by one.

    source.py     read_at, and an opening of it that libavformat can read
    container.py  what packets are read from: a container, or a file of pictures
    formats.py    which files libavformat is let open, and what is said of those that it cannot
    demux.py      containers: packets and seeking
    facts.py      what is true of a video as a whole
    measure.py    when it begins and ends
    packed.py     AVI with two frames in one packet
    stills.py     picture files and animated WebP, read by Pillow
    select.py     pure: which packet is the picture at t, and which packets must be decoded for it
    plan.py       pure: wanted instants to runs
    device.py     what a device is
    choice.py     what to choose, as one word
    choose_device.py    the one place that chooses one
    cpu.py        packets to frames with libav
    cuda.py       an NVIDIA card: which sources are left to the CPU, and why
    nvidia.py     its driver and packages, and what is said where one is missing
    surface.py    decoded pictures on a card, and what is asked of it
    cupy_card.py  a card as CuPy gives it: memory, streams, small pictures
    nvdec.py      packets to surfaces
    bitstream.py  packets as NVDEC wants them
    nal.py        the units of H.264 and HEVC
    av1.py        the units of AV1
    disposable.py pure: packets that nothing refers to
    nvimgcodec.py large pictures to JPEG
    cards.py      which GPUs there are, and whether they decode; a program of its own, for `thumbd check`
    colour.py     what a frame's samples mean
    orientation.py    how it is to be turned and mirrored
    siting.py     where its chroma stands
    scale.py      frames to small sRGB pictures with libswscale
    deinterlace.py    interlaced frames to progressive ones
    reading.py    one reading of the packets around some instants, and the decoding of those that they need
    video.py      a run: the frame for each instant, however far back decoding must begin
    studio.py     where frames become pictures, timed
    geometry.py   pure: how large, how cropped, how turned
    encode.py     RGB to WebP, JPEG, PNG, AVIF
    sheet.py      tiles to sheets
    index.py      what players find tiles by: WebVTT, HLS, DASH, JSON
    bif.py        the same for Roku, Plex and Emby
    score.py      how good a picture stands for a video
    best.py       the search for the best one
    wanted.py     which instants an output wants
    outputs.py    what is made of the frames: one class per kind of output
    stamps.py     when frames are shown, read from the packets alone
    moving.py     outputs whose frames come in order, one after another
    ahead.py      pictures made on a thread of their own while earlier ones are encoded
    clip.py       H.264 in MP4
    sound.py      the sound of a clip, copied or encoded
    animation.py  WebP, GIF, AVIF
    sink.py       a file that the supervisor has opened, and its writing
    pool.py       threads that take pieces of work, each with a track of its own
    render.py     a task from top to bottom

Nothing in here but `cards.py` opens a file, knows a path or a URL, or writes anywhere but into the `emit` and the sinks
it is given.
"""
