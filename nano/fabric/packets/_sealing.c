/* Seals and opens batches of QUIC packets with a short header: what `sealing.py` does, without Python per packet.
 *
 * Built by `./dev` where a compiler and libcrypto's headers are; `_sealing.pyi` has the interface, and
 * `sealing.py` the twin that always works. Both must do the same, which tests/unit/nano/fabric/packets/test_sealing.py
 * checks. RFC 9001, 5.3 and 5.4, for the AES suites; RFC 9000, 17.3 and 19.8.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

enum { TAG = 16, SAMPLE = 16, NUMBER = 2, NONCE = 12, ID_LIMIT = 20, DATAGRAM_LIMIT = 16383 };
enum { FORM = 0x80, FIXED = 0x40, RESERVED = 0x18, PHASE = 0x04, NUMBER_LENGTH = 0x03, PROTECTED = 0x1f };
enum { STREAM = 0x08, STREAM_LAST = 0x0f, HAS_OFFSET = 4, HAS_LENGTH = 2, FIN = 1 };

typedef struct {
    PyObject_HEAD
    EVP_CIPHER_CTX *encrypt, *decrypt, *mask;
    unsigned char iv[NONCE];
} Keys;

static void keys_dealloc(Keys *self)
{
    PyTypeObject *type = Py_TYPE(self);
    EVP_CIPHER_CTX_free(self->encrypt);
    EVP_CIPHER_CTX_free(self->decrypt);
    EVP_CIPHER_CTX_free(self->mask);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static int keys_init(Keys *self, PyObject *arguments, PyObject *named)
{
    static char *names[] = {"key", "iv", "header_key", NULL};
    Py_buffer key, iv, header;
    if (!PyArg_ParseTupleAndKeywords(arguments, named, "y*y*y*", names, &key, &iv, &header))
        return -1;
    int right = iv.len == NONCE && (key.len == 16 || key.len == 32) && key.len == header.len && !self->encrypt;
    if (right) {
        const EVP_CIPHER *gcm = key.len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
        const EVP_CIPHER *ecb = key.len == 16 ? EVP_aes_128_ecb() : EVP_aes_256_ecb();
        memcpy(self->iv, iv.buf, NONCE);
        self->encrypt = EVP_CIPHER_CTX_new();
        self->decrypt = EVP_CIPHER_CTX_new();
        self->mask = EVP_CIPHER_CTX_new();
        right = self->encrypt && self->decrypt && self->mask
            && EVP_EncryptInit_ex(self->encrypt, gcm, NULL, key.buf, NULL)
            && EVP_DecryptInit_ex(self->decrypt, gcm, NULL, key.buf, NULL)
            && EVP_EncryptInit_ex(self->mask, ecb, NULL, header.buf, NULL)
            && EVP_CIPHER_CTX_set_padding(self->mask, 0);
    }
    PyBuffer_Release(&key);
    PyBuffer_Release(&iv);
    PyBuffer_Release(&header);
    if (!right)
        PyErr_SetString(PyExc_ValueError, "keys of AES-GCM have 16 or 32 bytes, the same twice, and an iv of 12");
    return right ? 0 : -1;
}

static void make_nonce(const Keys *self, uint64_t number, unsigned char *nonce)
{
    memcpy(nonce, self->iv, NONCE);
    for (int i = 0; i < 8; i++)
        nonce[NONCE - 1 - i] ^= (unsigned char)(number >> (8 * i));
}

static int varint_size(uint64_t value)
{
    return value < 64 ? 1 : value < 16384 ? 2 : value < (1u << 30) ? 4 : 8;
}

static unsigned char *put_varint(unsigned char *at, uint64_t value)
{
    int size = varint_size(value);
    for (int i = 0; i < size; i++)
        at[i] = (unsigned char)(value >> (8 * (size - 1 - i)));
    at[0] |= (unsigned char)((size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3) << 6);
    return at + size;
}

/* The value at `*at`, which is moved behind it; 0 when it does not end before `end`. */
static int take_varint(const unsigned char **at, const unsigned char *end, uint64_t *value)
{
    if (*at >= end)
        return 0;
    int size = 1 << (**at >> 6);
    if (end - *at < size)
        return 0;
    *value = **at & 0x3f;
    for (int i = 1; i < size; i++)
        *value = *value << 8 | (*at)[i];
    *at += size;
    return 1;
}

static int seal_one(Keys *self, unsigned char *packet, Py_ssize_t header, Py_ssize_t frame,
                    const unsigned char *data, Py_ssize_t size, uint64_t number)
{
    unsigned char nonce[NONCE], mask[SAMPLE], *sealed = packet + header, *at = sealed;
    int done;
    make_nonce(self, number, nonce);
    if (!EVP_EncryptInit_ex(self->encrypt, NULL, NULL, NULL, nonce)
        || !EVP_EncryptUpdate(self->encrypt, NULL, &done, packet, (int)header)
        || !EVP_EncryptUpdate(self->encrypt, at, &done, at, (int)frame))
        return 0;
    at += done;
    if (!EVP_EncryptUpdate(self->encrypt, at, &done, data, (int)size))
        return 0;
    at += done;
    if (!EVP_EncryptFinal_ex(self->encrypt, at, &done)
        || !EVP_CIPHER_CTX_ctrl(self->encrypt, EVP_CTRL_GCM_GET_TAG, TAG, at)
        || !EVP_EncryptUpdate(self->mask, mask, &done, sealed + 4 - NUMBER, SAMPLE))
        return 0;
    packet[0] ^= mask[0] & PROTECTED;
    sealed[-2] ^= mask[1];
    sealed[-1] ^= mask[2];
    return 1;
}

static PyObject *keys_seal(Keys *self, PyObject *arguments)
{
    int first, fin;
    unsigned long long number, stream, offset;
    Py_ssize_t start, stop, datagram, limit;
    Py_buffer id, data;
    if (!PyArg_ParseTuple(arguments, "iy*KKKy*nnpnn", &first, &id, &number, &stream, &offset, &data, &start, &stop,
                          &fin, &datagram, &limit))
        return NULL;
    PyObject *packets = PyList_New(0);
    if (packets && (start < 0 || stop > data.len || datagram > DATAGRAM_LIMIT || id.len > ID_LIMIT)) {
        PyErr_SetString(PyExc_ValueError, "the data, the datagram or the connection id is out of bounds");
        Py_CLEAR(packets);
    }
    Py_ssize_t header = 1 + id.len + NUMBER;
    while (packets && start < stop && PyList_GET_SIZE(packets) < limit) {
        Py_ssize_t frame = 1 + varint_size(stream) + (offset ? varint_size(offset) : 0) + 2;
        Py_ssize_t size = datagram - header - frame - TAG;
        if (size > stop - start)
            size = stop - start;
        if (size <= 0)
            break;
        PyObject *packet = PyBytes_FromStringAndSize(NULL, header + frame + size + TAG);
        if (!packet) {
            Py_CLEAR(packets);
            break;
        }
        unsigned char *bytes = (unsigned char *)PyBytes_AS_STRING(packet), *at = bytes;
        *at++ = (unsigned char)first;
        memcpy(at, id.buf, id.len);
        at += id.len;
        *at++ = (unsigned char)(number >> 8);
        *at++ = (unsigned char)number;
        *at++ = STREAM | HAS_LENGTH | (offset ? HAS_OFFSET : 0) | (fin && start + size == stop ? FIN : 0);
        at = put_varint(at, stream);
        if (offset)
            at = put_varint(at, offset);
        *at++ = (unsigned char)(0x40 | size >> 8);
        *at++ = (unsigned char)size;
        if (!seal_one(self, bytes, header, frame, (unsigned char *)data.buf + start, size, number)) {
            PyErr_SetString(PyExc_RuntimeError, "libcrypto did not seal a packet");
            Py_DECREF(packet);
            Py_CLEAR(packets);
            break;
        }
        start += size;
        offset += size;
        number++;
        PyObject *item = Py_BuildValue("NK", packet, offset);
        if (!item || PyList_Append(packets, item))
            Py_CLEAR(packets);
        Py_XDECREF(item);
    }
    PyBuffer_Release(&id);
    PyBuffer_Release(&data);
    return packets;
}

/* Consecutive packets with contiguous data of one stream, gathered into one piece. */
typedef struct {
    PyObject *data;
    Py_ssize_t size;
    uint64_t number, count, stream, offset;
    int first, fin;
} Run;

static int append(PyObject *list, PyObject *item)
{
    int failed = !item || PyList_Append(list, item);
    Py_XDECREF(item);
    return !failed;
}

static int finish(Run *run, PyObject *opened)
{
    if (!run->data)
        return 1;
    PyObject *data = run->data;
    run->data = NULL;
    if (_PyBytes_Resize(&data, run->size))
        return 0;
    return append(opened, Py_BuildValue("iKKLKNN", run->first, (unsigned long long)run->number,
                                        (unsigned long long)run->count, (long long)run->stream,
                                        (unsigned long long)run->offset, PyBool_FromLong(run->fin), data));
}

/* Opens one packet into `plain`; its length, or -1 when it is not for this way. */
static Py_ssize_t open_one(Keys *self, const unsigned char *packet, Py_ssize_t size, const Py_buffer *id, int phase,
                           uint64_t expected, int64_t largest, unsigned char *plain, int *first, uint64_t *number)
{
    unsigned char mask[SAMPLE], nonce[NONCE], header[1 + ID_LIMIT + NUMBER];
    Py_ssize_t at = 1 + id->len, sealed = size - at - NUMBER - TAG;
    int done;
    if (size < at + 4 + SAMPLE || sealed < 1 || packet[0] & FORM || !(packet[0] & FIXED)
        || memcmp(packet + 1, id->buf, id->len))
        return -1;
    if (!EVP_EncryptUpdate(self->mask, mask, &done, packet + at + 4, SAMPLE))
        return -1;
    *first = packet[0] ^ (mask[0] & PROTECTED);
    if (*first & RESERVED || !!(*first & PHASE) != phase || (*first & NUMBER_LENGTH) != NUMBER - 1)
        return -1;
    header[0] = (unsigned char)*first;
    memcpy(header + 1, packet + 1, id->len);
    header[at] = packet[at] ^ mask[1];
    header[at + 1] = packet[at + 1] ^ mask[2];
    uint64_t found = (expected & ~(uint64_t)0xffff) | (uint64_t)header[at] << 8 | header[at + 1];
    if ((int64_t)found <= (int64_t)expected - 0x8000)
        found += 0x10000;
    else if (found > expected + 0x8000 && found >= 0x10000)
        found -= 0x10000;
    if ((int64_t)found <= largest)
        return -1;
    *number = found;
    make_nonce(self, found, nonce);
    if (!EVP_DecryptInit_ex(self->decrypt, NULL, NULL, NULL, nonce)
        || !EVP_DecryptUpdate(self->decrypt, NULL, &done, header, (int)(at + NUMBER))
        || !EVP_DecryptUpdate(self->decrypt, plain, &done, packet + at + NUMBER, (int)sealed)
        || !EVP_CIPHER_CTX_ctrl(self->decrypt, EVP_CTRL_GCM_SET_TAG, TAG, (void *)(packet + size - TAG))
        || EVP_DecryptFinal_ex(self->decrypt, plain + sealed, &done) <= 0)
        return -1;
    return sealed;
}

/* Whether a payload is one STREAM frame with data, a length, and nothing behind it. */
static int only_stream(const unsigned char *at, const unsigned char *end, uint64_t *stream, uint64_t *offset,
                       const unsigned char **data)
{
    unsigned char type = *at++;
    uint64_t size;
    *offset = 0;
    if (type < STREAM || type > STREAM_LAST || !(type & HAS_LENGTH) || !take_varint(&at, end, stream)
        || (type & HAS_OFFSET && !take_varint(&at, end, offset)) || !take_varint(&at, end, &size))
        return 0;
    *data = at;
    return size > 0 && (uint64_t)(end - at) == size;
}

static PyObject *keys_open(Keys *self, PyObject *arguments)
{
    Py_buffer train, id;
    Py_ssize_t segment;
    unsigned long long expected;
    long long largest;
    int phase;
    if (!PyArg_ParseTuple(arguments, "y*ny*KLi", &train, &segment, &id, &expected, &largest, &phase))
        return NULL;
    PyObject *opened = PyList_New(0);
    unsigned char *plain = PyMem_Malloc(train.len ? train.len : 1);
    Run run = {0};
    int fine = opened && plain;
    if (fine && (segment < 1 || id.len > ID_LIMIT)) {
        PyErr_SetString(PyExc_ValueError, "the segment or the connection id is out of bounds");
        fine = 0;
    } else if (!plain) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t at = 0; fine && at < train.len; at += segment) {
        const unsigned char *packet = (unsigned char *)train.buf + at, *data;
        Py_ssize_t size = train.len - at < segment ? train.len - at : segment;
        int first = 0;
        uint64_t number = 0, stream, offset;
        Py_ssize_t length = open_one(self, packet, size, &id, phase, expected, largest, plain, &first, &number);
        if (length < 0) {
            fine = finish(&run, opened)
                && append(opened, Py_BuildValue("iKKLKOy#", 0, 0ULL, 0ULL, -1LL, 0ULL, Py_False, packet, size));
            continue;
        }
        largest = (long long)number;
        if (number > expected)
            expected = number + 1;
        if (!only_stream(plain, plain + length, &stream, &offset, &data)) {
            fine = finish(&run, opened)
                && append(opened, Py_BuildValue("iKKLKOy#", first, (unsigned long long)number, 1ULL, -1LL, 0ULL,
                                                Py_False, plain, length));
            continue;
        }
        Py_ssize_t count = plain + length - data;
        if (!run.data || stream != run.stream || offset != run.offset + (uint64_t)run.size || run.fin
            || number != run.number + run.count) {
            fine = finish(&run, opened) && (run.data = PyBytes_FromStringAndSize(NULL, train.len - at)) != NULL;
            if (!fine)
                break;
            run.size = 0;
            run.count = 0;
            run.number = number;
            run.stream = stream;
            run.offset = offset;
        }
        memcpy(PyBytes_AS_STRING(run.data) + run.size, data, count);
        run.size += count;
        run.count++;
        run.fin = plain[0] & FIN;
        run.first = first;
    }
    fine = fine && finish(&run, opened);
    Py_XDECREF(run.data);
    PyMem_Free(plain);
    PyBuffer_Release(&train);
    PyBuffer_Release(&id);
    if (!fine)
        Py_CLEAR(opened);
    return opened;
}

static PyMethodDef keys_methods[] = {
    {"seal", (PyCFunction)keys_seal, METH_VARARGS, NULL},
    {"open", (PyCFunction)keys_open, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot keys_slots[] = {
    {Py_tp_dealloc, keys_dealloc},
    {Py_tp_init, keys_init},
    {Py_tp_methods, keys_methods},
    {0, NULL},
};

static PyType_Spec keys_spec = {
    .name = "nano.fabric.packets._sealing.Keys",
    .basicsize = sizeof(Keys),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = keys_slots,
};

static int prepare(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&keys_spec);
    int failed = !type || PyModule_AddObjectRef(module, "Keys", type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, prepare}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_sealing", .m_slots = slots};

PyMODINIT_FUNC PyInit__sealing(void)
{
    return PyModuleDef_Init(&definition);
}
