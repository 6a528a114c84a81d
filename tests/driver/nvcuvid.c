/* libnvcuvid.so.1: a parser that takes every packet for a picture, and a decoder that fills it with its number.

Real packets are not understood: sizes come from STANDIN_SIZE (such as 320x180), depth and chroma from STANDIN_DEPTH
and STANDIN_CHROMA (1: 4:2:0, 3: 4:4:4). VP9's superframes (Annex B of its specification) are looked into, for a
packet with hidden frames is several pictures of which the last is shown. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ffnvcodec/dynlink_cuda.h>
#include <ffnvcodec/dynlink_cuviddec.h>
#include <ffnvcodec/dynlink_nvcuvid.h>

enum { SURFACES = 12 };

typedef struct { CUVIDPARSERPARAMS with; int begun, session, surface; } Parser;
typedef struct { CUVIDDECODECREATEINFO with; unsigned char *memory; int value[SURFACES]; } Decoder;

static int sessions, packets; /* of the process */
static int number_now;        /* of the packet that is being parsed */

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

static void say(const char *what, int session, long long a, long long b) {
    const char *path = getenv("STANDIN_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s %d %lld %lld\n", what, session, a, b);
    fclose(file);
}

CUresult cuvidGetDecoderCaps(CUVIDDECODECAPS *caps) {
    char named[16];
    const char *lacking = getenv("STANDIN_UNSUPPORTED");
    say("caps", caps->eCodecType, caps->eChromaFormat, caps->nBitDepthMinus8 + 8);
    snprintf(named, sizeof named, ",%d,", caps->eCodecType);
    caps->bIsSupported = !(lacking && strstr(lacking, named)) && caps->eChromaFormat != cudaVideoChromaFormat_422;
    caps->nNumNVDECs = 7;
    caps->nOutputFormatMask = 0x3f;
    caps->nMinWidth = 48;
    caps->nMinHeight = 16;
    caps->nMaxWidth = caps->nMaxHeight = 8192;
    caps->nMaxMBCount = 262144;
    return 0;
}

CUresult cuvidCreateVideoParser(CUvideoparser *made, CUVIDPARSERPARAMS *with) {
    Parser *parser = calloc(1, sizeof *parser);
    parser->with = *with;
    parser->session = sessions++;
    *made = (CUvideoparser)parser;
    say("session", parser->session, with->CodecType, with->pfnDisplayPicture != NULL);
    return 0;
}

CUresult cuvidDestroyVideoParser(CUvideoparser parser) {
    say("ended", ((Parser *)parser)->session, 0, 0);
    free(parser);
    return 0;
}

static void begin(Parser *parser) {
    int width = 320, height = 180, depth = number("STANDIN_DEPTH", 8);
    CUVIDEOFORMATEX told;
    if (getenv("STANDIN_SIZE")) sscanf(getenv("STANDIN_SIZE"), "%dx%d", &width, &height);
    memset(&told, 0, sizeof told);
    told.format.codec = parser->with.CodecType;
    told.format.frame_rate.numerator = 25;
    told.format.frame_rate.denominator = 1;
    told.format.progressive_sequence = 1;
    told.format.bit_depth_luma_minus8 = told.format.bit_depth_chroma_minus8 = depth - 8;
    told.format.min_num_decode_surfaces = 8;
    told.format.coded_width = (width + 15) & ~15;
    told.format.coded_height = (height + 15) & ~15;
    told.format.display_area.right = width;
    told.format.display_area.bottom = height;
    told.format.chroma_format = number("STANDIN_CHROMA", 1);
    parser->with.pfnSequenceCallback(parser->with.pUserData, &told.format);
    parser->begun = 1;
}

static int pictures(const Parser *parser, const CUVIDSOURCEDATAPACKET *packet) {
    unsigned char last = packet->payload[packet->payload_size - 1];
    return parser->with.CodecType == cudaVideoCodec_VP9 && (last & 0xe0) == 0xc0 ? (last & 7) + 1 : 1;
}

CUresult cuvidParseVideoData(CUvideoparser given, CUVIDSOURCEDATAPACKET *packet) {
    Parser *parser = (Parser *)given;
    if (packet->payload && packet->payload_size) {
        number_now = packets++;
        say("packet", parser->session, number_now, packet->payload_size);
        if (number_now == number("STANDIN_FAIL", -1)) return CUDA_ERROR_UNKNOWN;
        if (!parser->begun) begin(parser);
        for (int left = number_now == number("STANDIN_SILENT", -1) ? 0 : pictures(parser, packet); left; left--) {
            CUVIDPARSERDISPINFO shown = {.picture_index = parser->surface, .progressive_frame = 1};
            CUVIDPICPARAMS *picture = calloc(1, sizeof *picture);
            shown.timestamp = packet->timestamp;
            picture->CurrPicIdx = parser->surface;
            parser->surface = (parser->surface + 1) % SURFACES;
            parser->with.pfnDecodePicture(parser->with.pUserData, picture);
            free(picture);
            if (left == 1 && parser->with.pfnDisplayPicture)
                parser->with.pfnDisplayPicture(parser->with.pUserData, &shown);
        }
    }
    if (packet->flags & CUVID_PKT_ENDOFSTREAM) {
        say("end", parser->session, 0, 0);
        parser->begun = 0;
    }
    return 0;
}

CUresult cuvidCreateDecoder(CUvideodecoder *made, CUVIDDECODECREATEINFO *with) {
    Decoder *decoder = calloc(1, sizeof *decoder);
    decoder->with = *with;
    *made = (CUvideodecoder)decoder;
    return 0;
}

CUresult cuvidDestroyDecoder(CUvideodecoder decoder) {
    free(((Decoder *)decoder)->memory);
    free(decoder);
    return 0;
}

CUresult cuvidReconfigureDecoder(CUvideodecoder decoder, CUVIDRECONFIGUREDECODERINFO *to) { return 0; }

CUresult cuvidDecodePicture(CUvideodecoder decoder, CUVIDPICPARAMS *picture) {
    ((Decoder *)decoder)->value[picture->CurrPicIdx] = number_now;
    return 0;
}

CUresult cuvidGetDecodeStatus(CUvideodecoder decoder, int surface, CUVIDGETDECODESTATUS *status) {
    status->decodeStatus = cuvidDecodeStatus_Success;
    return 0;
}

CUresult cuvidMapVideoFrame64(CUvideodecoder given, int surface, unsigned long long *address, unsigned *pitch,
                              CUVIDPROCPARAMS *with) {
    Decoder *decoder = (Decoder *)given;
    int words = decoder->with.OutputFormat == cudaVideoSurfaceFormat_P016 ||
                decoder->with.OutputFormat == cudaVideoSurfaceFormat_YUV444_16Bit;
    size_t size;
    *pitch = (decoder->with.ulTargetWidth * (words + 1) + 511) & ~511u;
    size = (size_t)*pitch * (decoder->with.ulTargetHeight + 2) * 3;
    decoder->memory = realloc(decoder->memory, size);
    memset(decoder->memory, decoder->value[surface], size);
    *address = (unsigned long long)decoder->memory;
    return 0;
}

CUresult cuvidUnmapVideoFrame64(CUvideodecoder decoder, unsigned long long address) { return 0; }

CUresult cuvidCtxLockCreate(void **lock, void *context) { *lock = context; return 0; }
CUresult cuvidCtxLockDestroy(void *lock) { return 0; }
CUresult cuvidCtxLock(void *lock, unsigned flags) { return 0; }
CUresult cuvidCtxUnlock(void *lock, unsigned flags) { return 0; }

/* Asked for when the library is loaded, and never called. */
#define ABSENT(name) CUresult name(void) { return CUDA_ERROR_UNKNOWN; }
ABSENT(cuvidCreateVideoSource)
ABSENT(cuvidCreateVideoSourceW)
ABSENT(cuvidDestroyVideoSource)
ABSENT(cuvidSetVideoSourceState)
ABSENT(cuvidGetVideoSourceState)
ABSENT(cuvidGetSourceVideoFormat)
ABSENT(cuvidGetSourceAudioFormat)
