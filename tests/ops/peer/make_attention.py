"""make_attention.py DIR - models of one attention operator each, and what ONNX Runtime makes of them: cases.json, data.npz
and the models, as tests/golden/onnx/README.md describes. Needs onnx and onnxruntime; run by hand, never by the build."""
import numpy as np, onnx, json, os, sys
from onnx import helper as h, TensorProto as T
import onnxruntime as ort
ort.set_default_logger_severity(3)
out=sys.argv[1]; os.makedirs(out,exist_ok=True)
rng=np.random.default_rng(7)
cases=[];data={};refused=[]
DT={np.dtype('float32'):T.FLOAT,np.dtype('int32'):T.INT32,np.dtype('int64'):T.INT64,np.dtype('float16'):T.FLOAT16,np.dtype('bool'):T.BOOL}
def case(name,op,domain,ins,nout,opset=17,tol=None,**attrs):
    inputs=[];names=[];feeds={}
    for i,x in enumerate(ins):
        if x is None: names.append(''); continue
        n=f'x{i}'; names.append(n); feeds[n]=x
        inputs.append(h.make_tensor_value_info(n,DT[x.dtype],x.shape))
    outs=[f'y{i}' if o else '' for i,o in enumerate(nout)]
    node=h.make_node(op,names,outs,domain=domain,name='n',**attrs)
    fl=T.FLOAT16 if ins[0].dtype==np.float16 else T.FLOAT
    g=h.make_graph([node],'g',inputs,[h.make_tensor_value_info(o,(T.INT32 if op.startswith('Embed') and o=='y1' else fl),None) for o in outs if o])
    m=h.make_model(g,opset_imports=[h.make_opsetid('',opset),h.make_opsetid('com.microsoft',1)],ir_version=10)
    print(name,flush=True,file=sys.stderr)
    pid=os.fork()
    if pid==0:
        try:
            ort.InferenceSession(m.SerializeToString(),providers=["CPUExecutionProvider"]).run(None,feeds)
        finally: os._exit(0)
    if os.waitpid(pid,0)[1]!=0: print("CRASH",name); return
    try:
        s=ort.InferenceSession(m.SerializeToString(),providers=['CPUExecutionProvider'])
        r=s.run(None,feeds)
    except Exception as e:
        refused.append(name); print('REFUSED',name,str(e)[:230]); return
    if any(np.isnan(x).any() for x in r if x.dtype.kind=='f'): print('NAN',name)
    e={'id':name,'model':name+'.onnx','params':{'op':op,'domain':domain},'inputs':{},'outputs':{},'peer':'onnxruntime '+ort.__version__,'tolerance':tol or {'rel_to_max':1e-5,'abs':1e-6}}
    for n,x in feeds.items(): data[f'{name}/in/{n}']=x; e['inputs'][n]=f'{name}/in/{n}'
    for o,x in zip([o for o in outs if o],r): data[f'{name}/out/{o}']=x; e['outputs'][o]=f'{name}/out/{o}'
    cases.append(e); open(f'{out}/{name}.onnx','wb').write(m.SerializeToString())
f=lambda *s: rng.standard_normal(s).astype(np.float32)
i32=lambda x: np.array(x,dtype=np.int32)
MS='com.microsoft'
B,S,H,D=2,5,3,4; hid=H*D; P=3
w=f(hid,3*hid); b=f(3*hid); x=f(B,S,hid)
A=lambda n,ins,nout=(1,),**k: case('ms_attn_'+n,'Attention',MS,ins,nout,num_heads=H,**k)
A("plain",[x,w,b]); A('uni',[x,w,b],unidirectional=1); A('scale',[x,w,b],scale=0.7)
A('mask1',[x,w,b,i32([3,5])]); A('mask1_2b',[x,w,b,i32([3,5,1,0])])
A('mask1_over',[x,w,b,i32([0,9])])
A('mask2',[x,w,b,i32([[1,1,0,1,0],[0,0,0,0,0]])]); A('mask2_uni',[x,w,b,i32([[1,1,0,1,0],[0,1,1,0,1]])],unidirectional=1)
A('mask2_val',[x,w,b,i32([[1,1,0,1,0],[0,2,1,-1,1]])],mask_filter_value=-3.0)
A('mask1_val_uni',[x,w,b,i32([3,5])],mask_filter_value=-2.0,unidirectional=1)
A('mask3',[x,w,b,(rng.random((B,S,S))>.4).astype(np.int32)])
A('mask4',[x,w,b,(rng.random((B,1,S+2,S+2))>.4).astype(np.int32)])
past=f(2,B,H,P,D)
A('past',[x,w,b,None,past],(1,1)); A('past_uni',[x,w,b,None,past],(1,1),unidirectional=1)
A('past_mask2_uni',[x,w,b,(rng.random((B,S+P))>.4).astype(np.int32),past],(1,1),unidirectional=1)
A('past_mask4_uni',[x,w,b,(rng.random((B,1,10,10))>.4).astype(np.int32),past],(1,1),unidirectional=1)
A('past_mask3',[x,w,b,(rng.random((B,S,S+P))>.4).astype(np.int32),past],(1,1))
A('present_only',[x,w,b],(1,1)); A('bias',[x,w,b,None,None,f(B,H,S,S)]); A('bias1',[x,w,b,None,None,f(1,1,S,S)]); A('bias_h',[x,w,b,None,None,f(1,H,S,S)],unidirectional=1)
A('bias_mask_uni',[x,w,b,i32([3,5]),None,f(B,1,S,S)],unidirectional=1)
A('vsize',[x,f(hid,2*hid+6),f(2*hid+6)],qkv_hidden_sizes=[hid,hid,6])
A('dummy',[x,w,b,i32([[0],[0]])])
A('one',[x[:1,:1],w,b,None,past[:,:1]],(1,1),unidirectional=1)
L=7
M=lambda n,ins,nout=(1,),**k: case('mha_'+n,'MultiHeadAttention',MS,ins,nout,num_heads=H,**k)
q=f(B,S,hid);k=f(B,L,hid);v=f(B,L,H*6); v2=f(B,L,hid)
M('cross',[q,k,v]); M('bias',[q,k,v,f(2*hid+18)]); M('uni',[q,f(B,S,hid),f(B,S,hid)],unidirectional=1)
M('packed_qkv',[f(B,S,H,3,D)]); M('packed_kv',[q,f(B,L,H,2,D)])
M('kv4',[q,f(B,H,L,D),f(B,H,L,D)]); M('kv4_bias',[q,f(B,H,L,D),f(B,H,L,D),f(3*hid)])
M('pad1',[q,k,v2,None,i32([2,7])]); M('pad2',[q,k,v2,None,(rng.random((B,L))>.4).astype(np.int32)]); M('pad3',[q,k,v2,None,(rng.random((B,S,L))>.4).astype(np.int32)])
M('added',[q,k,v2,None,None,f(B,H,S,L)]); M('added1',[q,k,v2,None,i32([2,7]),f(1,1,S,L)],scale=0.3)
pk,pv=f(B,H,P,D),f(B,H,P,D); n3=[q,f(B,S,hid),f(B,S,hid)]
M('past',n3+[None,None,None,pk,pv],(1,1,1)); M('past_uni',n3+[f(3*hid),None,None,pk,pv],(1,1,1),unidirectional=1)
M('past_pad',n3+[None,(rng.random((B,S+P))>.4).astype(np.int32),None,pk,pv],(1,1,1))
M('present',n3,(1,1,1)); M('qk',n3+[None,i32([2,4])],(1,1,1,1)); M('qk2',n3,(1,0,0,1),unidirectional=1)
KV=2;Hq=4;D=16
G=lambda n,ins,nout=(1,1,1),**k: case('gqa_'+n,'GroupQueryAttention',MS,ins,nout,num_heads=Hq,kv_num_heads=KV,**k)
q=f(B,S,Hq*D);k=f(B,S,KV*D);v=f(B,S,KV*D); pk=f(B,KV,P,D);pv=f(B,KV,P,D)
cos=np.cos(f(16,D//2));sin=np.sin(f(16,D//2))
G('prompt',[q,k,v,None,None,i32([S-1]*B),i32(S)]); G('prompt_pad',[q,k,v,None,None,i32([2,4]),i32(S)])
G('packed',[f(B,S,(Hq+2*KV)*D),None,None,None,None,i32([S-1]*B),i32(S)]); G('packed_rot',[f(B,S,(Hq+2*KV)*D),None,None,None,None,i32([S-1]*B),i32(S),cos,sin],do_rotary=1)
G('rot',[q,k,v,None,None,i32([S-1]*B),i32(S),cos,sin],do_rotary=1); G('rot_inter',[q,k,v,None,None,i32([S-1]*B),i32(S),cos,sin],do_rotary=1,rotary_interleaved=1)
q1,k1,v1=f(B,1,Hq*D),f(B,1,KV*D),f(B,1,KV*D)
G('dec',[q1,k1,v1,pk,pv,i32([P]*B),i32(P+1)]); G('dec_rot',[q1,k1,v1,pk,pv,i32([P]*B),i32(P+1),cos,sin],do_rotary=1)
G('dec_ragged',[q1,k1,v1,pk,pv,i32([1,P]),i32(P+1),cos,sin],do_rotary=1)
G('dec_buffer',[q1,k1,v1,f(B,KV,8,D),f(B,KV,8,D),i32([3,5]),i32(6),cos,sin],do_rotary=1)
G('chunk',[q[:1],k[:1],v[:1],pk[:1],pv[:1],i32([P+S-1]),i32(P+S),cos,sin],do_rotary=1)
G('chunk_win',[q[:1],k[:1],v[:1],pk[:1],pv[:1],i32([P+S-1]),i32(P+S)],local_window_size=3)
G('win',[q,k,v,None,None,i32([S-1]*B),i32(S)],local_window_size=2); G('win_ragged',[q1,k1,v1,pk,pv,i32([1,P]),i32(P+1)],local_window_size=2)
G('win_big',[q,k,v,None,None,i32([S-1]*B),i32(S)],local_window_size=99)
G('softcap',[q,k,v,None,None,i32([S-1]*B),i32(S)],softcap=0.8,scale=0.9); G('smooth',[q,k,v,None,None,i32([S-1]*B),i32(S)],smooth_softmax=1)
G('sink',[q,k,v,None,None,i32([S-1]*B),i32(S)]+[None]*4+[f(Hq)]); G('added',[q,k,v,None,None,i32([S-1]*B),i32(S)]+[None]*3+[f(B,Hq,S,S)]); G('added1',[q1,k1,v1,pk,pv,i32([P]*B),i32(P+1)]+[None]*3+[f(1,1,1,P+1)],softcap=1.5)
G('posids',[q,k,v,None,None,i32([S-1]*B),i32(S),cos,sin,np.arange(2,2+B*S).reshape(B,S).astype(np.int64)],do_rotary=1)
G('dec_posids',[q1,k1,v1,pk,pv,i32([P]*B),i32(P+1),cos,sin,np.array([[7],[2]],dtype=np.int64)],do_rotary=1)
G('qk1',[q,k,v,None,None,i32([S-1]*B),i32(S)],(1,1,1,1),qk_output=1,softcap=0.8); G('qk2',[q,k,v,None,None,i32([S-1]*B),i32(S)],(1,1,1,1),qk_output=2)
G('qk1_added',[q,k,v,None,None,i32([S-1]*B),i32(S)]+[None]*3+[f(B,Hq,S,S)],(1,1,1,1),qk_output=1)
G('nocausal',[q,k,v,None,None,i32([S-1]*B),i32(S)],causal=0)
G('rotpart',[q,k,v,None,None,i32([S-1]*B),i32(S),cos[:,:2],sin[:,:2]],do_rotary=1)
G('one',[q1,k1,v1,None,None,i32([0]*B),i32(1)])
R=lambda n,ins,**k: case('msrot_'+n,'RotaryEmbedding',MS,ins,(1,),**k)
x=f(B,S,3*8); pid=rng.integers(0,16,(B,S)).astype(np.int64); c8,s8=np.cos(f(16,4)),np.sin(f(16,4))
R('3d',[x,pid,c8,s8]); R('3d_inter',[x,pid,c8,s8],interleaved=1); R('offset',[x,np.array([3],dtype=np.int64),c8,s8]); R('4d',[f(B,3,S,8),pid,c8,s8]); R('part',[x,pid,c8[:,:2],s8[:,:2]],num_heads=3,rotary_embedding_dim=4); R('part_inter',[x,pid,c8[:,:2],s8[:,:2]],num_heads=3,rotary_embedding_dim=4,interleaved=1)
R('scale',[x,pid,c8,s8],scale=2.0)
E_=lambda n,ins,nout,**k: case('embed_'+n,'EmbedLayerNormalization',MS,ins,nout,**k)
V=11;Hd=12
ids=rng.integers(0,V,(B,S)).astype(np.int32); seg=rng.integers(0,2,(B,S)).astype(np.int32); we,pe,se,g_,be=f(V,Hd),f(9,Hd),f(2,Hd),f(Hd),f(Hd)
E_('plain',[ids,seg,we,pe,se,g_,be],(1,1)); E_('noseg',[ids,None,we,pe,None,g_,be],(1,1)); E_('mask',[ids,seg,we,pe,se,g_,be,i32([[1,1,0,0,0],[1,1,1,1,0]])],(1,1)); E_('sum',[ids,seg,we,pe,se,g_,be,i32([[1,2,0,3,0],[1,0,1,1,0]])],(1,1,1),epsilon=1e-3)
E_('pos',[ids,seg,we,pe,se,g_,be,None,rng.integers(0,9,(B,S)).astype(np.int32)],(1,1)); E_('pos1',[ids,seg,we,pe,se,g_,be,None,rng.integers(0,9,(1,S)).astype(np.int32)],(1,1))
# onnx Attention against ORT
O=lambda n,ins,nout=(1,),opset=23,**k: case(f'attn{opset}_'+n,'Attention','',ins,nout,opset=opset,**k)
q,k,v=f(2,4,5,8),f(2,2,7,8),f(2,2,7,6)
for mode in range(4): O(f'qk{mode}',[q,k,v,f(5,7)],(1,0,0,1),softcap=1.2,qk_matmul_output_mode=mode,is_causal=1 if mode==3 else 0)
O('gqa_causal_past',[q,k,v,(rng.random((2,1,5,10))>.3),f(2,2,3,8),f(2,2,3,6)],(1,1,1),is_causal=1)
O('allhidden',[q,k,v,np.zeros((5,7),bool)]); 
O('mask_h',[q,k,v,f(4,1,7)]); O('mask_b',[q,k,v,f(2,1,5,1)]); O('mask1d',[q,k,v,f(7)])
O('flat',[f(2,5,24),f(2,7,12),f(2,7,10),None,f(2,2,3,6),f(2,2,3,5)],(1,1,1),q_num_heads=4,kv_num_heads=2,scale=0.3)
O('long',[f(1,2,80,4),f(1,1,90,4),f(1,1,90,4)],is_causal=1)
O('pad',[q,k,v,None,None,None,np.array([3,7],dtype=np.int64)],opset=24); O('pad_causal',[q,k,v,None,None,None,np.array([3,7],dtype=np.int64)],opset=24,is_causal=1); O('short_mask',[q,k,v,f(5,4),None,None,np.array([3,4],dtype=np.int64)],opset=24)
json.dump(cases,open(out+'/cases.json','w'),indent=0); np.savez(out+'/data.npz',**data); print(len(cases))
